"""Wheels and sdists built by a contributor's pip, from a copy of this tree."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email.parser import BytesParser
from pathlib import Path

import pytest
from pyproject_hooks import BuildBackendHookCaller, quiet_subprocess_runner

from backend import hooks, metadata
from ci import toml
from ci.errors import CiError, of_system
from ci.wheel import build_info, reader
from tests.backend.conftest import call_hook as run
from tests.backend.conftest import copy_tree


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_tree(tmp_path_factory.mktemp("tree"))


def test_a_frontend_finds_the_cmake_that_is_installed(tree: Path, tmp_path: Path) -> None:
    """Not the folder of that name; by the library that pip and build call hooks with."""
    system = toml.read(tree / "pyproject.toml")["build-system"]
    backend = BuildBackendHookCaller(
        str(tree),
        system["build-backend"],
        system["backend-path"],
        runner=quiet_subprocess_runner,
        python_executable=sys.executable,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "/nowhere")
        patch.setenv("VLLM_TARGET_DEVICE", "empty")
        made = backend.build_wheel(str(tmp_path))
    assert made == "vllm-0.5.4+empty-py3-none-any.whl"


def test_an_empty_wheel_is_for_every_python_and_platform(tree: Path, tmp_path: Path) -> None:
    done = run(tree, "build_wheel(OUT)", tmp_path, VLLM_TARGET_DEVICE="empty")
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.iterdir()
    assert path.name == "vllm-0.5.4+empty-py3-none-any.whl"
    wheel = reader.read(path)
    assert wheel.native == {}
    assert wheel.build == build_info.BuildInfo(None, None, False, None, "empty")
    with zipfile.ZipFile(path) as archive:
        assert "vllm/__init__.py" in archive.namelist()


def test_prepared_metadata_is_the_wheels(tree: Path, tmp_path: Path) -> None:
    hook = "prepare_metadata_for_build_wheel(OUT)"
    done = run(tree, hook, tmp_path, VLLM_TARGET_DEVICE="empty")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "vllm-0.5.4+empty.dist-info" / "METADATA").read_bytes()
    headers = BytesParser().parsebytes(text)
    assert headers["Version"] == "0.5.4+empty"
    assert "torch>=2.1" in headers.get_all("Requires-Dist", [])
    assert (tmp_path / "vllm-0.5.4+empty.dist-info" / "WHEEL").read_text().endswith("none-any\n\n")


def test_the_torch_range_follows_the_variant(tree: Path, tmp_path: Path) -> None:
    hook = "prepare_metadata_for_build_wheel(OUT)"
    environ = {"VLLM_TARGET_DEVICE": "cuda", "VLLM_CUDA_VERSION": "11.8"}
    done = run(tree, hook, tmp_path, **environ)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "vllm-0.5.4+cu118.dist-info" / "METADATA").read_bytes()
    assert "torch<2.8,>=2.1" in BytesParser().parsebytes(text).get_all("Requires-Dist", [])


def test_an_sdist_has_no_variant(tree: Path, tmp_path: Path) -> None:
    done = run(tree, "build_sdist(OUT)", tmp_path, VLLM_CUDA_VERSION="11.8")
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / "vllm-0.5.4.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in (
        "PKG-INFO",
        "CMakeLists.txt",
        "cmake/nvrtcc.py",
        "ci/matrix.toml",
        "csrc/bindings.cpp",
    ):
        assert name in names
    assert not [name for name in names if name.startswith(("tests/", "docs/", "wheelhouse/"))]


def test_an_editable_install_finds_the_sources(tree: Path, tmp_path: Path) -> None:
    done = run(tree, "build_editable(OUT)", tmp_path, VLLM_TARGET_DEVICE="empty")
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.iterdir()
    environment = tmp_path / "site"
    with zipfile.ZipFile(path) as archive:
        archive.extractall(environment)
    code = f"import site; site.addsitedir({str(environment)!r}); import vllm; print(vllm.__file__)"
    found = subprocess.run(
        [sys.executable, "-S", "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    assert Path(found.stdout.strip()) == tree / "python" / "vllm" / "__init__.py"


@pytest.mark.parametrize(
    "hook", ["get_requires_for_build_wheel()", "prepare_metadata_for_build_wheel(OUT)"]
)
def test_a_wrong_device_ends_without_a_traceback(tree: Path, tmp_path: Path, hook: str) -> None:
    done = run(tree, hook, tmp_path, VLLM_TARGET_DEVICE="gpu")
    assert done.returncode == 1
    assert "set it to one of: cuda, cpu, empty" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", ["release 13.0, V", "no release"])
def test_a_caller_with_compilers_of_its_own_is_not_asked_for_an_nvcc(
    tree: Path, tmp_path: Path, words: str
) -> None:
    """As `ci build` with its pinned ones, where an nvcc of that version is, or one that fails."""
    asked = tmp_path / "asked"
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(f"#!/bin/sh\necho {words}; : > {asked}\n")
    nvcc.chmod(0o755)
    out = tmp_path / "out"
    out.mkdir()
    environ = {"VLLM_CUDA_VERSION": "13.0", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    hook = "prepare_metadata_for_build_wheel(OUT, {b.DECIDED: 'build.json'})"
    done = run(tree, hook, out, **environ)
    assert (done.returncode, asked.exists()) == (0, False), done.stderr
    text = (out / "vllm-0.5.4+cu130.dist-info" / "METADATA").read_bytes()
    assert "torch>=2.9" in BytesParser().parsebytes(text).get_all("Requires-Dist", [])
    run(tree, "prepare_metadata_for_build_wheel(OUT)", out, **environ)
    assert asked.exists()  # for anybody else it is


def test_max_jobs_reaches_cmake(tree: Path, tmp_path: Path) -> None:
    hook = "build_wheel(OUT), b.os.environ['CMAKE_BUILD_PARALLEL_LEVEL']"
    done = run(tree, hook, tmp_path, VLLM_TARGET_DEVICE="empty", MAX_JOBS="3")
    assert done.stdout.split()[-1] == "3", done.stderr
    done = run(tree, "build_wheel(OUT)", tmp_path, VLLM_TARGET_DEVICE="empty", MAX_JOBS="many")
    assert done.returncode == 1
    assert "MAX_JOBS is 'many'" in done.stderr
    assert "Traceback" not in done.stderr


def test_nvrtc_is_a_build_requirement_only_without_nvcc(tree: Path, tmp_path: Path) -> None:
    hook = "get_requires_for_build_wheel()"
    asked = {"VLLM_CUDA_VERSION": "12.1", "TORCH_CUDA_ARCH_LIST": "9.0", "PATH": "/nowhere"}
    with_cuda = run(tree, hook, tmp_path, **asked).stdout
    assert "nvidia-cuda-nvrtc-cu12==12.1.105" in with_cuda
    assert "nvidia" not in run(tree, hook, tmp_path, VLLM_TARGET_DEVICE="cpu").stdout


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A tree in which this process builds; the environment, which hooks change, is restored."""
    folders = {"ROOT": "", "BUILD": "build", "ASSEMBLY": "assembly"}
    for name, path in {**folders, "LOCK": "lock", "CCACHE_LOG": "ccache.log"}.items():
        monkeypatch.setattr(hooks, name, tmp_path / path)
    monkeypatch.setattr(metadata, "decided", False)
    before = dict(os.environ)
    os.environ["VLLM_TARGET_DEVICE"] = "empty"
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ('{"source_dir": "HERE"}', False),
        ('{"source_dir": "/another/tree"}', True),
        ('{"source_d', False),  # its writer was killed
        ("{}", False),
        ("[]", False),
    ],
)
def test_a_build_folder_of_this_tree_is_used_again(here: Path, text: str, stays: bool) -> None:
    hooks._keep_what_is_compiled()  # a new folder
    origin = here / "build" / ".skbuild-info.json"
    origin.parent.mkdir()
    origin.write_text(text.replace("HERE", str(here)))
    hooks._keep_what_is_compiled()
    assert origin.exists() is stays


@pytest.mark.parametrize("name", ["a;b", "a\udcff"])
def test_a_folder_that_cmake_does_not_support(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setattr(hooks, "ROOT", here / name)
    with pytest.raises(SystemExit):
        hooks.build_wheel(str(here))
    assert "whose path has a semicolon or is not UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize("error", [CiError("no toolkit", do="install it"), OSError(28, "full")])
def test_an_error_of_the_machine_has_no_traceback(
    capsys: pytest.CaptureFixture[str], here: Path, error: Exception
) -> None:
    def fails() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        hooks._for_people(fails)()
    assert ended.value.code == 1
    assert ended.value.__suppress_context__
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert str(of_system(error) if isinstance(error, OSError) else error) in said


def test_paths_of_the_environment_are_those_of_the_caller_s_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compilers run in other folders."""
    monkeypatch.chdir(here)
    os.environ["CUDA_HOME"] = "toolkit"
    assert hooks._for_people(lambda: os.environ["CUDA_HOME"])() == str(here / "toolkit")


@pytest.mark.parametrize("hook", ["build_wheel", "build_editable"])
def test_a_caller_that_decided_has_its_settings_unchanged(
    here: Path, monkeypatch: pytest.MonkeyPatch, hook: str
) -> None:
    calls = []
    monkeypatch.setattr(hooks.skbuild, hook, lambda *given: calls.append(given) or "made.whl")
    given = {hooks.DECIDED: "build.json", "build-dir": "mine"}
    assert getattr(hooks, hook)(str(here), given, "ignored") == "made.whl"
    assert calls == [(str(here), given, None)]
    assert metadata.decided
    assert not (here / "lock").exists()
    assert getattr(hooks, hook)(str(here), {"build-dir": "mine"}) == "made.whl"
    folder, settings, prepared = calls[1]
    assert (folder, settings["build-dir"], prepared) == (str(here), "mine", None)
    assert settings["wheel.py-api"] == "py3"
    assert hooks.DECIDED in settings
    assert not metadata.decided


def test_builds_that_compile_nothing_have_another_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that what others compiled stays; pure wheels are for every Python and platform."""
    settings = []
    for hook in ("build_wheel", "prepare_metadata_for_build_wheel"):
        monkeypatch.setattr(hooks.skbuild, hook, lambda _, given, *__: settings.append(given))
        getattr(hooks, hook)(str(here))
    os.environ["VLLM_TARGET_DEVICE"] = "cpu"
    hooks.prepare_metadata_for_build_wheel(str(here))
    assert [each["build-dir"] for each in settings] == [
        str(here / "assembly"),
        str(here / "assembly"),
        str(here / "build"),
    ]
    assert ["wheel.platlib" in each for each in settings] == [True, True, False]


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_metadata_are_prepared_with_the_caller_s_settings(
    here: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    hook, settings = f"prepare_metadata_for_build_{kind}", []
    monkeypatch.setattr(hooks.skbuild, hook, lambda _, given: settings.append(given) or "found")
    assert getattr(hooks, hook)(str(here), {"build-dir": "mine"}) == "found"
    assert (settings[0]["build-dir"], settings[0]["wheel.py-api"]) == ("mine", "py3")


def test_an_sdist_is_made_without_a_variant_also_if_the_last_one_failed(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def make(folder: str, settings: dict[str, str]) -> str:
        seen.append((folder, settings, metadata.building_sdist))
        if "fail" in settings:
            raise ValueError("a broken file")
        return "vllm.tar.gz"

    monkeypatch.setattr(hooks.skbuild, "build_sdist", make)
    assert hooks.build_sdist("out") == "vllm.tar.gz"
    assert not metadata.building_sdist
    with pytest.raises(ValueError, match="a broken file"):
        hooks.build_sdist("out", {"fail": "1"})
    assert seen == [("out", {}, True), ("out", {"fail": "1"}, True)]
    assert not metadata.building_sdist
