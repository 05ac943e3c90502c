"""Which device, CUDA and compiler the environment selects, with fake nvccs (scripts)."""

from __future__ import annotations

import pytest

from backend import options
from ci.errors import CiError
from ci.matrix import Matrix
from tests.backend.conftest import MakeNvcc


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
    found = options.read({"PATH": "", **environ}, platform)
    assert (found.device, found.variant, found.local) == (device, variant, local)
    assert found.nvcc is None


@pytest.mark.parametrize("home", [True, False])
def test_an_nvcc_of_the_matrix(nvcc: MakeNvcc, home: bool, the_matrix: Matrix) -> None:
    found = options.read(nvcc("11.8", home=home), "linux")
    assert found.cuda == the_matrix.variant("cu118")
    assert found.nvcc is not None
    assert found.torch == "torch>=2.1,<2.8"


def test_cuda_home_takes_precedence_over_path(nvcc: MakeNvcc) -> None:
    environ = {**nvcc("11.8", home=False), **nvcc("12.1")}
    assert options.read(environ, "linux").variant == "cu121"


def test_another_nvcc_names_its_variant(nvcc: MakeNvcc) -> None:
    found = options.read(nvcc("13.0"), "linux")
    assert (found.variant, found.local) == ("cu130", "cu130")
    assert found.torch == "torch>=2.1"


def test_a_variant_on_request_is_built_by_the_compiler_of_its_cuda(the_matrix: Matrix) -> None:
    """And asks for the torch of its CUDA, which an nvcc of that version does not."""
    found = options.read({"PATH": "", "VLLM_CUDA_VERSION": "13.0"}, "linux")
    assert (found.cuda, found.nvcc) == (the_matrix.variant("cu130"), None)
    assert found.torch == "torch>=2.9"


def test_a_variant_on_request_is_used_if_named_even_with_an_nvcc(
    nvcc: MakeNvcc, the_matrix: Matrix
) -> None:
    """A release on a machine with an nvcc of that version has the torch of the matrix."""
    environ = nvcc("13.0")
    assert options.read(environ, "linux").torch == "torch>=2.1"
    named = options.read({**environ, "VLLM_CUDA_VERSION": "13.0"}, "linux")
    assert named.cuda == the_matrix.variant("cu130")
    other = options.read({**nvcc("12.6"), "VLLM_CUDA_VERSION": "12.6"}, "linux")
    assert (other.variant, other.torch) == ("cu126", "torch>=2.1")


def test_a_requested_version_takes_precedence_over_an_nvcc(nvcc: MakeNvcc) -> None:
    found = options.read({**nvcc("13.0"), "VLLM_CUDA_VERSION": "12.1"}, "linux")
    assert (found.variant, found.nvcc) == ("cu121", None)
    assert "has CUDA 13.0 and is not used" in found.without_nvcc


def test_an_empty_request_is_none(nvcc: MakeNvcc) -> None:
    found = options.read({**nvcc("13.0"), "VLLM_CUDA_VERSION": ""}, "linux")
    assert (found.variant, found.nvcc is None) == ("cu130", False)


def test_precompiled_files_need_no_compiler(nvcc: MakeNvcc, the_matrix: Matrix) -> None:
    found = options.read({**nvcc("13.0"), "VLLM_USE_PRECOMPILED": "1"}, "linux")
    assert (found.precompiled, found.cuda) == (True, the_matrix.default)


@pytest.mark.parametrize(
    ("environ", "precompiled"),
    [
        ({}, False),
        ({"VLLM_USE_PRECOMPILED": "0"}, False),
        ({"VLLM_PRECOMPILED_WHEEL_LOCATION": "a.whl"}, True),
        ({"VLLM_PRECOMPILED_WHEEL_LOCATION": "a.whl", "VLLM_USE_PRECOMPILED": "0"}, False),
    ],
)
def test_how_precompiled_files_are_requested(environ: dict[str, str], precompiled: bool) -> None:
    assert options.read({"PATH": "", **environ}, "linux").precompiled == precompiled


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"VLLM_TARGET_DEVICE": "gpu"}, "set it to one of: cuda, cpu, empty"),
        ({"VLLM_CUDA_VERSION": "9.0"}, "set it to one of 11.8, 12.1"),
        ({"VLLM_USE_PRECOMPILED": "yes"}, "set it to 1 or 0"),
        ({"VLLM_USE_PRECOMPILED": "1", "VLLM_TARGET_DEVICE": "cpu"}, "the device is cpu"),
        ({"CUDA_HOME": "/nowhere"}, "/nowhere/bin/nvcc does not exist"),
    ],
)
def test_what_cannot_be_built_is_an_error_that_lists_what_can(
    environ: dict[str, str], words: str
) -> None:
    with pytest.raises(CiError) as caught:
        options.read({"PATH": "", **environ}, "linux")
    assert words in str(caught.value)


def test_a_free_threaded_python_is_refused_before_anything_is_compiled() -> None:
    """None can be installed here: cp38-abi3 is not among its tags, so installers come to build."""
    for environ in ({"PATH": ""}, {"PATH": "", "VLLM_TARGET_DEVICE": "cpu"}):
        with pytest.raises(CiError, match="this Python is free-threaded") as caught:
            options.read(environ, "linux", free_threaded=True)
        assert "use a Python with the GIL" in str(caught.value)
    empty = {"VLLM_TARGET_DEVICE": "empty"}
    assert options.read(empty, "linux", free_threaded=True).device == "empty"


@pytest.mark.parametrize("processor", ["x86_64", "AMD64", "aarch64"])
def test_which_machines_build_native_code(processor: str) -> None:
    found = options.read({"PATH": "", "VLLM_TARGET_DEVICE": "cpu"}, "linux", processor)
    assert found.compiles


def test_an_unused_toolkit_may_be_too_old(nvcc: MakeNvcc) -> None:
    old = nvcc("11.2")
    with pytest.raises(CiError, match="the kernels need"):
        options.read(old, "linux")
    assert options.read({**old, "VLLM_CUDA_VERSION": "12.1"}, "linux").nvcc is None
