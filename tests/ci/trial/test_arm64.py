"""Running the aarch64 wheel under an emulator; `make arm64` runs the op tests with it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ci.trial import arm64
from tests.ci.support.toolchain import ROOT


def test_without_apt_the_reason_is_told(tmp_path: Path) -> None:
    with pytest.raises(arm64.NoEmulation, match="apt-get, dpkg not found") as caught:
        arm64.prepare(tmp_path, tmp_path, tmp_path / "a.whl", {"PATH": str(tmp_path)})
    assert "Debian or Ubuntu" in caught.value.do


def test_what_apt_cannot_do_is_told_in_its_words(tmp_path: Path) -> None:
    for name in arm64.NEEDED:
        (tmp_path / name).write_text("#!/bin/sh\necho E: no network >&2; exit 100\n")
        (tmp_path / name).chmod(0o755)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    with pytest.raises(arm64.NoEmulation, match="E: no network"):
        arm64.prepare(tmp_path, tmp_path / "folder", tmp_path / "a.whl", environ)
    assert not list((tmp_path / "folder").glob("qemu*"))  # nothing half unpacked


def test_a_run_names_the_processor_and_how_tests_start_a_python(tmp_path: Path) -> None:
    emulator = tmp_path / "an emulator"
    emulator.write_text('#!/bin/sh\necho "$QEMU_CPU; $VLLM_TEST_EMULATOR; $*" > told; exit 3\n')
    emulator.chmod(0o755)
    root = tmp_path / "root"
    python = arm64.Emulated(emulator, root, tmp_path / "site")
    assert python.run(["-m", "pytest"], tmp_path, "cortex-a72") == 3
    processor, prefix, arguments = (tmp_path / "told").read_text().strip().split("; ")
    assert processor == "cortex-a72"
    assert shlex.split(prefix) == [str(emulator), "-L", str(root)]
    assert arguments == f"-L {root} {root}/usr/bin/python{arm64.PYTHON} -m pytest"


def test_every_run_asks_for_the_choice_of_kernels() -> None:
    for processor, tests in arm64.RUNS.items():
        assert arm64.CHOICE in tests, processor
        assert all((ROOT / each).exists() for each in tests if each.startswith("tests/"))


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="no apt here")
def test_apt_knows_packages_for_arm64_and_none_that_are_installed(tmp_path: Path) -> None:
    configuration = arm64._apt_for_arm64(tmp_path)
    environ = {"APT_CONFIG": str(configuration), "PATH": "/usr/bin:/bin"}
    dumped = subprocess.run(
        ["apt-config", "dump"], env=environ, check=True, capture_output=True, text=True
    ).stdout
    assert 'APT::Architecture "arm64";' in dumped
    assert f'Dir::State::status "{tmp_path}/status";' in dumped
    assert (tmp_path / "status").read_text() == ""


def test_a_commit_without_a_wheel_is_told_how_to_get_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ci", "test-arm64", "--wheels", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "manylinux2014_aarch64.whl is not there" in done.stderr
    assert "make nightly" in done.stderr
