"""Which device, CUDA and compiler the environment asks for, with nvccs that are scripts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import vllm_options
from vllm_options import OptionError

from ci.matrix import Matrix

Nvcc = Callable[..., dict[str, str]]


@pytest.fixture
def nvcc(tmp_path: Path) -> Nvcc:
    """Makes a toolkit whose nvcc says a version, and the environment that leads to it."""

    def make(
        version: str, codes: str = "sm_75 sm_80 sm_90", *, home: bool = True
    ) -> dict[str, str]:
        folder = tmp_path / version / "bin"
        folder.mkdir(parents=True)
        script = folder / "nvcc"
        script.write_text(
            "#!/bin/sh\n"
            f'[ "$1" = --version ] && echo "Cuda compilation tools, release {version}, V"\n'
            f'[ "$1" = --list-gpu-code ] && echo {codes}\n'
            "exit 0\n"
        )
        script.chmod(0o755)
        return {"CUDA_HOME": str(folder.parent)} if home else {"PATH": str(folder)}

    return make


@pytest.mark.parametrize(
    ("environ", "platform", "device", "variant", "local"),
    [
        ({}, "linux", "cuda", "cu121", None),
        ({}, "darwin", "empty", "empty", "empty"),
        ({"VLLM_TARGET_DEVICE": "cpu"}, "linux", "cpu", "cpu", "cpu"),
        ({"VLLM_TARGET_DEVICE": "empty"}, "linux", "empty", "empty", "empty"),
        ({"VLLM_CUDA_VERSION": "11.8"}, "linux", "cuda", "cu118", "cu118"),
    ],
)
def test_without_a_toolkit(
    environ: dict[str, str], platform: str, device: str, variant: str, local: str
) -> None:
    options = vllm_options.read({"PATH": "", **environ}, platform)
    assert (options.device, options.variant, options.local) == (device, variant, local)
    assert options.nvcc is None


def test_nvrtc_is_required_just_where_there_is_no_nvcc(nvcc: Nvcc, the_matrix: Matrix) -> None:
    without = vllm_options.read({"PATH": ""}, "linux")
    assert without.toolkit_requirements() == [pin.requirement for pin in the_matrix.default.toolkit]
    assert vllm_options.read(nvcc("12.1"), "linux").toolkit_requirements() == []
    assert vllm_options.read({"VLLM_TARGET_DEVICE": "cpu"}, "linux").toolkit_requirements() == []


@pytest.mark.parametrize("home", [True, False])
def test_an_nvcc_of_the_matrix(nvcc: Nvcc, home: bool, the_matrix: Matrix) -> None:
    options = vllm_options.read(nvcc("11.8", home=home), "linux")
    assert options.cuda == the_matrix.variant("cu118")
    assert options.nvcc is not None
    assert options.torch == "torch>=2.1,<2.8"


def test_cuda_home_goes_before_path(nvcc: Nvcc) -> None:
    environ = {**nvcc("11.8", home=False), **nvcc("12.1")}
    assert vllm_options.read(environ, "linux").variant == "cu121"


def test_another_nvcc_names_its_variant_and_builds_what_it_can(nvcc: Nvcc) -> None:
    options = vllm_options.read(nvcc("13.0", "sm_75 sm_80 sm_86 sm_89 sm_90 sm_90a"), "linux")
    assert (options.variant, options.local) == ("cu130", "cu130")
    assert options.cuda is not None
    assert options.cuda.archs == ("7.5", "8.0", "8.6", "8.9", "9.0", "9.0a")  # 7.0 is gone
    assert options.torch == "torch>=2.1"


def test_a_version_asked_for_decides_over_an_nvcc_of_another(nvcc: Nvcc) -> None:
    options = vllm_options.read({**nvcc("13.0"), "VLLM_CUDA_VERSION": "12.1"}, "linux")
    assert (options.variant, options.nvcc) == ("cu121", None)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"VLLM_TARGET_DEVICE": "gpu"}, "set it to one of: cuda, cpu, empty"),
        ({"VLLM_CUDA_VERSION": "9.0"}, "set it to one of 11.8, 12.1"),
        ({"CUDA_HOME": "/nowhere"}, "/nowhere/bin/nvcc does not work"),
    ],
)
def test_what_cannot_be_built_is_an_error_that_lists_what_can(
    environ: dict[str, str], words: str
) -> None:
    with pytest.raises(OptionError) as caught:
        vllm_options.read({"PATH": "", **environ}, "linux")
    assert words in str(caught.value)


def test_an_nvcc_that_says_nothing(nvcc: Nvcc) -> None:
    with pytest.raises(OptionError, match="names no release"):
        vllm_options.read(nvcc(""), "linux")
