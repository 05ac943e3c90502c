"""What goes to PyPI, checked and uploaded by twine to an index that speaks PyPI's upload API."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ci import release
from ci.git import Commit
from ci.matrix import Matrix
from ci.release import pypi, sdist
from ci.release.errors import ReleaseError
from tests.ci.clients.conftest import UV, run
from tests.ci.support import wheels as stand_ins
from tests.ci.support.toolchain import ROOT
from tests.ci.support.wheels import Factory
from tests.ports import free_port

VERSION = "9.8.7"
ABI3 = f"vllm-{VERSION}-cp38-abi3-manylinux1_x86_64.whl"
WHEELS = [ABI3, f"vllm-{VERSION}-cp38-abi3-manylinux2014_aarch64.whl"]
SDIST = f"vllm-{VERSION}.tar.gz"


@pytest.fixture(scope="module")
def released(the_matrix: Matrix) -> Matrix:
    return release.matrix_of(the_matrix, VERSION)


@pytest.fixture(scope="module")
def commit() -> Commit:
    return Commit("a" * 40, 1, 1_700_000_000, dirty=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, released: Matrix, commit: Commit) -> Path:
    """A whole release: its sdist, and wheels with the METADATA of this tree and little else."""
    folder = tmp_path_factory.mktemp("release")
    code = "import vllm_backend as b, sys; b.prepare_metadata_for_build_wheel(sys.argv[1])"
    environ = {**os.environ, "PYTHONPATH": "backend/pep517", "VLLM_TARGET_DEVICE": "empty"}
    command = [sys.executable, "-c", code, str(folder)]
    subprocess.run(command, cwd=ROOT, env=environ, check=True, capture_output=True)
    (metadata,) = folder.glob("*.dist-info/METADATA")
    text = re.sub(rb"(?m)^License-File: .*\n", b"", metadata.read_bytes())
    text = re.sub(rb"(?m)^Version: .*$", b"Version: 0", text, count=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stand_ins, "METADATA", text)
        factory = Factory(folder / "made", released)
        for wheel in factory.release(commit):
            wheel.path.rename(folder / wheel.path.name)
    sdist.build(ROOT, folder, released, commit)
    return folder


def twine(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "twine", *arguments]
    environ = {k: v for k, v in os.environ.items() if not k.startswith("TWINE_")}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """pypiserver: its address, and its folder."""
    packages = tmp_path / "packages"
    packages.mkdir()
    port = free_port()
    options = ["--port", str(port), "--interface", "127.0.0.1", "-P", ".", "-a", ".", "--verbose"]
    command = [sys.executable, "-m", "pypiserver", "run", *options, "--log-file", "/dev/null"]
    process = subprocess.Popen([*command, "--disable-fallback", str(packages)])
    address = f"http://127.0.0.1:{port}"
    try:
        while process.poll() is None:
            try:
                httpx.get(address, trust_env=False)
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield address, packages
    finally:
        process.terminate()
        process.wait()


def test_only_the_default_variants_wheel_for_every_python_and_the_sdist_go(
    made: Path, released: Matrix, tmp_path: Path
) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "vllm-0.1-old.whl").touch()
    pypi.arrange(pypi.select(made, released), tmp_path)
    assert sorted(path.name for path in (tmp_path / "wheels").iterdir()) == WHEELS
    assert [path.name for path in (tmp_path / "sdist").iterdir()] == [SDIST]


def test_older_files_that_cannot_be_removed_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    (tmp_path / "wheels").mkdir()
    monkeypatch.setattr(shutil, "rmtree", fail)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        pypi.arrange(pypi.Upload((), tmp_path / SDIST), tmp_path)


def test_a_wheel_of_another_variant_under_the_default_name_is_refused(
    made: Path, released: Matrix, commit: Commit, tmp_path: Path
) -> None:
    for name in WHEELS:
        tag = name.removesuffix(".whl").split(f"{VERSION}-")[1]
        wheel = Factory(tmp_path, released).wheel(commit, "cu118", VERSION, tag=tag)
        wheel.path.rename(tmp_path / name)
    (tmp_path / SDIST).write_bytes((made / SDIST).read_bytes())
    with pytest.raises(ReleaseError, match="was built as cu118") as caught:
        pypi.select(tmp_path, released)
    assert caught.value.do == "build the release again: python -m ci release"


def test_twine_accepts_the_files(made: Path, released: Matrix) -> None:
    upload = pypi.select(made, released)
    done = twine("check", "--strict", *map(str, upload.wheels), str(upload.sdist))
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("PASSED") == 3


def test_an_upload_is_installed_by_its_name(
    made: Path, released: Matrix, index: tuple[str, Path], tmp_path: Path
) -> None:
    address, packages = index
    pypi.arrange(pypi.select(made, released), tmp_path)
    to = ["--repository-url", address, "--username", "x", "--password", "x", "--non-interactive"]
    uploaded = []
    for folder in (pypi.WHEELS, pypi.SDIST):  # as the workflow's steps do
        files = [str(path) for path in (tmp_path / folder).iterdir()]
        done = twine("upload", "--disable-progress-bar", *to, *files)
        assert done.returncode == 0, done.stdout + done.stderr
        uploaded.append(sorted(path.name for path in packages.iterdir()))
    assert uploaded == [WHEELS, sorted([*WHEELS, SDIST])]
    environment = tmp_path / "env"
    made_env = run([str(UV), "--no-config", "venv", "--quiet", str(environment)], tmp_path)
    assert made_env.code == 0, made_env.text
    install = [str(UV), "--no-config", "pip", "install", "--python", str(environment), "--no-deps"]
    ran = run([*install, "--default-index", f"{address}/simple/", "vllm"], tmp_path)
    assert ran.code == 0, ran.text
    asked = [str(environment / "bin/python"), "-c", "import vllm; print(vllm.__version__)"]
    assert run(asked, tmp_path).text.strip() == VERSION
    # What is there is never replaced.
    again = twine("upload", "--disable-progress-bar", *to, str(tmp_path / "wheels" / ABI3))
    assert again.returncode != 0
    assert (packages / ABI3).read_bytes() == (made / ABI3).read_bytes()


@pytest.mark.parametrize("version", ["9.8.7+cu118", "9.8.7.dev1", "9.8.7rc1"])
def test_what_must_not_be_on_pypi_is_refused(made: Path, released: Matrix, version: str) -> None:
    with pytest.raises(ReleaseError, match=r"local version|not a final release"):
        pypi.select(made, dataclasses.replace(released, version=version))


def test_a_release_with_a_file_missing_is_refused(
    made: Path, released: Matrix, tmp_path: Path
) -> None:
    (tmp_path / ABI3).write_bytes((made / ABI3).read_bytes())
    with pytest.raises(ReleaseError, match=re.escape(SDIST)):
        pypi.select(tmp_path, released)
