"""Which nvcc is found, and the error for one that cannot be used."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from backend import device_compiler
from backend.device_compiler import ToolkitError
from ci.matrix import Matrix
from tests.backend.conftest import MakeNvcc


def test_without_one(tmp_path: Path) -> None:
    assert device_compiler.find_nvcc({"PATH": str(tmp_path)}) is None
    assert device_compiler.find_nvcc({}) is None
    assert device_compiler.find_nvcc({"PATH": "", "CUDA_HOME": ""}) is None


def test_cuda_home_takes_precedence_and_names_the_nvcc_on_path(nvcc: MakeNvcc) -> None:
    found = device_compiler.find_nvcc({**nvcc("11.8", home=False), **nvcc("12.1")})
    assert found is not None
    assert (found.version, found.chosen_by) == ("12.1", "CUDA_HOME")
    assert "the nvcc on PATH" in found.passed_over
    assert found.passed_over.endswith("has CUDA 11.8 and is not used")
    assert found.passed_over in found.compiler().title


def test_two_of_one_version_agree(nvcc: MakeNvcc, tmp_path: Path) -> None:
    home = nvcc("12.1")
    shutil.copytree(home["CUDA_HOME"], tmp_path / "copy")
    found = device_compiler.find_nvcc({**home, "PATH": str(tmp_path / "copy" / "bin")})
    assert found is not None
    assert found.passed_over == ""


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (None, "bin/nvcc does not exist"),
        ("#!/nowhere/sh\n", "bin/nvcc does not exist"),
        (
            "#!/bin/sh\necho libcuda is missing >&2; exit 3\n",
            "status 3 and prints: libcuda is miss",
        ),
        ("#!/bin/sh\n", "exits with status 0 and prints: nothing"),
        ("#!/bin/sh\necho release 12.1; exit 9\n", "exits with status 9 and prints: release 12.1"),
        ("#!/bin/sh\nprintf %0999d 0\n", f"prints: {'0' * 200}\n"),
    ],
)
def test_a_cuda_home_without_a_working_nvcc(
    nvcc: MakeNvcc, tmp_path: Path, script: str | None, words: str
) -> None:
    path = tmp_path / "home" / "bin" / "nvcc"
    path.parent.mkdir(parents=True)
    if script is not None:
        path.write_text(script)
        path.chmod(0o755)
    environ = {**nvcc("12.1", home=False), "CUDA_HOME": str(tmp_path / "home")}
    with pytest.raises(ToolkitError) as caught:
        device_compiler.find_nvcc(environ)
    text = str(caught.value)
    assert f"CUDA_HOME is {tmp_path / 'home'}" in text  # what was looked for, and where
    assert words in text  # what was found
    assert "has CUDA 12.1 and is not used" in text  # what else there is
    assert "`nvcc --version`" in text
    assert "`${CUDA_HOME}/bin/nvcc --version`" in text


def test_a_file_that_is_not_executable(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvcc").write_text("not executable")
    with pytest.raises(ToolkitError, match="Permission denied"):
        device_compiler.find_nvcc({"CUDA_HOME": str(tmp_path), "PATH": ""})


def test_an_nvcc_on_path_that_does_not_work(nvcc: MakeNvcc) -> None:
    with pytest.raises(ToolkitError, match="the nvcc on PATH does not work"):
        device_compiler.find_nvcc(nvcc("", home=False))


@pytest.mark.parametrize(
    ("version", "fine"), [("9.2", False), ("11.7", False), ("11.8", True), ("13.0", True)]
)
def test_the_oldest(nvcc: MakeNvcc, version: str, fine: bool) -> None:
    found = device_compiler.find_nvcc(nvcc(version))
    assert found is not None
    if fine:
        found.check_age()
        return
    with pytest.raises(ToolkitError, match=rf"has CUDA {version}; the kernels need 11\.8 or newer"):
        found.check_age()


def test_nvrtc_that_is_not_installed(the_matrix: Matrix, tmp_path: Path) -> None:
    with pytest.raises(ToolkitError) as caught:
        device_compiler.nvrtc(the_matrix.toolkits["11.8"], tmp_path, "no nvcc on PATH")
    assert "NVRTC 11.8 is not installed" in str(caught.value)
    assert "no nvcc on PATH" in str(caught.value)
    assert "pip install nvidia-cuda-cccl-cu11==11.8.89.post1" in str(caught.value)


@pytest.fixture
def installed(
    the_matrix: Matrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Makes packages of CUDA 11.8 with one header each, which this Python finds."""

    def install(version: str = "") -> Path:
        site = tmp_path / "site"
        for pin in the_matrix.toolkits["11.8"].pins:
            info = site / f"{pin.project.replace('-', '_')}-{version or pin.version}.dist-info"
            header = site / "nvidia" / pin.project / "a.h"
            for path in (info, header.parent):
                path.mkdir(parents=True)
            header.write_text("of NVIDIA")
            (info / "METADATA").write_text(
                f"Metadata-Version: 2.1\nName: {pin.project}\nVersion: {version or pin.version}\n"
            )
            (info / "RECORD").write_text(f"nvidia/{pin.project}/a.h,,\n{info.name}/METADATA,,\n")
        monkeypatch.syspath_prepend(str(site))
        return site

    return install


def test_nvrtc_is_copied_to_a_stable_folder_and_found_there_again(
    the_matrix: Matrix, tmp_path: Path, installed: Callable[..., Path]
) -> None:
    toolkit = the_matrix.toolkits["11.8"]
    folder = device_compiler.toolkit_folder(toolkit, tmp_path)
    (folder / "nvidia").mkdir(parents=True)
    (folder / "nvidia" / "stale.h").touch()  # of other pins
    site = installed()
    assert device_compiler.nvrtc(toolkit, tmp_path, "why").toolkit == folder
    copied = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert copied == {"requirements.txt", *(f"nvidia/{pin.project}/a.h" for pin in toolkit.pins)}
    shutil.rmtree(site)  # as a frontend does with its environment
    assert device_compiler.nvrtc(toolkit, tmp_path, "why").toolkit == folder


def test_nvrtc_of_another_version_is_not_used(
    the_matrix: Matrix, tmp_path: Path, installed: Callable[..., Path]
) -> None:
    installed("1.2.3")
    with pytest.raises(ToolkitError, match=r"no nvidia-[\w-]+==[\w.]+ \(1\.2\.3 is installed\)"):
        device_compiler.nvrtc(the_matrix.toolkits["11.8"], tmp_path, "why")


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc on this machine")
def test_the_nvcc_of_this_machine_is_asked_and_not_its_list() -> None:
    found = device_compiler.find_nvcc({"PATH": str(Path(str(shutil.which("nvcc"))).parent)})
    assert found is not None
    compiler = found.compiler()
    assert compiler.can_compile("sm_90a")  # `nvcc --list-gpu-code` of 13.0 has no suffixed ones
    assert compiler.can_compile("compute_90")
    assert not compiler.can_compile("sm_91")
    if int(found.version.split(".")[0]) >= 13:
        assert not compiler.can_compile("sm_70")
