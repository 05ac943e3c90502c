"""Which NVRTC a source build without nvcc uses: one installed by pip, or all of a release's."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend import options, toolkits
from ci.matrix import Matrix
from ci.native import toolkit_requirements
from tests.backend.conftest import MakeNvcc


def choose(
    the_matrix: Matrix, root: Path, wanted: str, gpus: tuple[str, ...], processor: str = "x86_64"
) -> list[str]:
    environ = {"TORCH_CUDA_ARCH_LIST": wanted} if wanted else {}
    found = toolkits.choose(environ, the_matrix.default, root, lambda: gpus, processor)
    return [toolkit.version for toolkit in found]


@pytest.mark.parametrize(
    ("wanted", "gpus", "version"),
    [
        ("9.0a", (), "12.1"),  # the compiler whose code of it a release has
        ("8.0;9.0+PTX", (), "12.1"),
        ("Hopper", ("12.0",), "12.1"),
        ("12.0", (), "12.9"),
        ("Blackwell", (), "12.9"),
        ("8.0 10.3", (), "12.9"),
        ("15.0", (), "12.9"),  # none knows it: the newest says so
        ("", ("8.9",), "12.1"),
        ("native", ("8.9", "12.1"), "12.9"),
        ("", (), "12.9"),  # all of the matrix's
        ("All", ("8.9",), "12.9"),
    ],
)
def test_the_oldest_that_knows_every_gpu_asked_for(
    the_matrix: Matrix, tmp_path: Path, wanted: str, gpus: tuple[str, ...], version: str
) -> None:
    assert choose(the_matrix, tmp_path, wanted, gpus) == [version]


def test_a_tree_with_all_compilers_compiles_a_releases_archs(
    the_matrix: Matrix, tmp_path: Path
) -> None:
    for toolkit in the_matrix.default.toolkits:
        folder = tmp_path / "build" / "toolkit" / toolkit.version
        folder.mkdir(parents=True)
        (folder / "requirements.txt").write_text(toolkit_requirements(toolkit))
    assert choose(the_matrix, tmp_path, "", ()) == ["12.1", "12.9"]
    assert choose(the_matrix, tmp_path, "9.0", ()) == ["12.1"]
    found = options.read({"PATH": ""}, "linux")
    assert toolkits.requirements(found, {}, tmp_path, "x86_64") == []


def test_another_processor_uses_a_toolkit_that_exists_for_it(
    the_matrix: Matrix, tmp_path: Path
) -> None:
    assert choose(the_matrix, tmp_path, "9.0a", (), "aarch64") == ["12.9"]


def test_nvrtc_is_required_only_without_an_nvcc(
    nvcc: MakeNvcc, the_matrix: Matrix, tmp_path: Path
) -> None:
    def required(environ: dict[str, str]) -> list[str]:
        found = options.read(environ, "linux")
        return toolkits.requirements(found, environ, tmp_path, "x86_64")

    asked = {"PATH": "", "TORCH_CUDA_ARCH_LIST": "9.0"}
    pins = the_matrix.toolkits["12.1"].pins
    assert required(asked) == [pin.requirement for pin in pins]
    assert required({**asked, "TORCH_CUDA_ARCH_LIST": "12.0"}) == [
        "nvidia-cuda-nvrtc-cu12==12.9.86"
    ]
    assert required(nvcc("12.1")) == []
    assert required({"VLLM_TARGET_DEVICE": "cpu"}) == []
    assert required({"PATH": "", "VLLM_USE_PRECOMPILED": "1"}) == []
