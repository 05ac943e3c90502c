"""TORCH_CUDA_ARCH_LIST in torch's syntax, the machine's GPUs, and the toolkit's architectures."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from backend import archs, device_compiler
from backend.archs import ArchError, Archs
from backend.device_compiler import Compiler
from ci.matrix import Matrix
from tests.backend.conftest import MakeNvcc
from tests.ci.support.toolchain import NVRTCC, extension, toolkit_folder

EVERY = "70 75 80 86 89 90 90a 100 100a 103 120 121"


@pytest.fixture
def compiler(nvcc: MakeNvcc) -> Compiler:
    return find(nvcc, "12.9", EVERY)


def find(nvcc: MakeNvcc, version: str, codes: str) -> Compiler:
    found = device_compiler.find_nvcc(nvcc(version, codes))
    assert found is not None
    return found.compiler()


def choose(
    wanted: str | None, compiler: Compiler, the_matrix: Matrix, gpus: tuple[str, ...] = ()
) -> Archs:
    environ = {} if wanted is None else {"TORCH_CUDA_ARCH_LIST": wanted}
    return archs.choose(environ, the_matrix.default, compiler, lambda: gpus)


@pytest.mark.parametrize(
    ("wanted", "cubins", "ptx"),
    [
        ("8.0", "8.0", ""),
        ("8.0;9.0+PTX", "8.0 9.0", "9.0"),
        ("9.0+PTX 8.0", "8.0 9.0", "9.0"),
        ("10.0 9.0a 9.0", "9.0 9.0a 10.0", ""),
        (" 8.0; 8.0+PTX ;", "8.0", "8.0"),
        ("9.0a", "9.0a", ""),
        ("Ampere", "8.0 8.6", "8.6"),
        ("Turing;Hopper", "7.5 9.0", "7.5 9.0"),
        ("Blackwell", "10.0 10.3 12.0 12.1", "12.1"),
    ],
)
def test_torchs_syntax(
    wanted: str, cubins: str, ptx: str, compiler: Compiler, the_matrix: Matrix
) -> None:
    found = choose(wanted, compiler, the_matrix, gpus=("8.9",))
    assert (found.cubins, found.ptx) == (tuple(cubins.split()), tuple(ptx.split()))
    assert found.reason == "TORCH_CUDA_ARCH_LIST"


def test_what_the_kernels_do_not_run_on_is_left_out_of_a_list(
    compiler: Compiler, the_matrix: Matrix
) -> None:
    """The list that NVIDIA's PyTorch containers export begins with such."""
    found = choose("5.2 6.0 6.1 7.0 7.5 9.0+PTX", compiler, the_matrix)
    assert (found.cubins, found.ptx) == (("7.0", "7.5", "9.0"), ("9.0",))
    assert "without 5.2 6.0 6.1, on which the kernels do not run" in found.reason


def test_the_names_are_torchs() -> None:
    cpp_extension = pytest.importorskip("torch.utils.cpp_extension")
    source = Path(cpp_extension.__file__).read_text(encoding="utf-8")
    for name, known in archs.NAMES.items():
        assert re.search(rf"\('{name}', '{re.escape(known)}'\)", source), name


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("sm_80", "'sm_80' is not an architecture"),
        ("80", "'80' is not an architecture"),
        ("8.0,9.0", "'8.0,9.0' is not an architecture"),
        ("8.0+ptx", "'8.0+ptx' is not an architecture"),
        ("6.1", "compute capability 7.0 and up"),
        (";", "has no architecture"),
        ("native", "no GPU was found"),
    ],
)
def test_invalid_words(wanted: str, words: str, compiler: Compiler, the_matrix: Matrix) -> None:
    with pytest.raises(ArchError) as caught:
        choose(wanted, compiler, the_matrix)
    assert words in str(caught.value)


def test_without_a_request_and_a_gpu_it_is_the_matrixs_list(
    compiler: Compiler, the_matrix: Matrix
) -> None:
    found = choose(None, compiler, the_matrix)
    default = the_matrix.default
    assert (found.cubins, found.ptx) == (default.archs("x86_64"), default.ptx("x86_64"))
    assert choose("All", compiler, the_matrix, gpus=("8.9",)) == found


@pytest.mark.parametrize("wanted", [None, "native"])
@pytest.mark.parametrize(
    ("gpus", "cubins", "ptx"),
    [
        (("8.9",), ("8.9",), ()),
        (("9.0", "9.0"), ("9.0a",), ()),
        (("8.0", "7.5"), ("7.5", "8.0"), ()),
        (("9.5",), (), ("9.0",)),  # PTX of 9.0a runs on 9.0 alone
        (("15.0",), (), ("12.0",)),  # newer than the toolkit: PTX, which the driver compiles
    ],
)
def test_a_gpu_here_is_what_is_built_for(
    wanted: str | None,
    gpus: tuple[str, ...],
    cubins: tuple[str, ...],
    ptx: tuple[str, ...],
    compiler: Compiler,
    the_matrix: Matrix,
) -> None:
    found = choose(wanted, compiler, the_matrix, gpus)
    assert (found.cubins, found.ptx) == (cubins, ptx)
    assert "of this machine" in found.reason


def test_a_gpu_on_which_the_kernels_do_not_run(nvcc: MakeNvcc, the_matrix: Matrix) -> None:
    with pytest.raises(ArchError, match=r"the GPU here is of compute capability 6\.1"):
        choose(None, find(nvcc, "12.1", "61 70"), the_matrix, gpus=("6.1",))


def test_a_broken_driver_does_not_stop_a_build(compiler: Compiler, the_matrix: Matrix) -> None:
    def gpus() -> list[str]:
        raise ArchError("the CUDA driver cannot query GPU 0 (error 999)")

    found = archs.choose({}, the_matrix.default, compiler, gpus)
    assert found.cubins == the_matrix.default.archs("x86_64")
    assert found.reason.endswith("; the CUDA driver cannot query GPU 0 (error 999)")
    asked = {"TORCH_CUDA_ARCH_LIST": "native"}
    with pytest.raises(ArchError, match="error 999"):
        archs.choose(asked, the_matrix.default, compiler, gpus)


def test_an_unsupported_arch_is_left_out_unless_requested(
    nvcc: MakeNvcc, the_matrix: Matrix
) -> None:
    listed = the_matrix.default.archs("x86_64")
    without = [arch for arch in listed if arch != "7.0"]
    assert len(without) < len(listed)
    newest = find(nvcc, "13.0", " ".join(arch.replace(".", "") for arch in without))
    found = choose(None, newest, the_matrix)
    assert found.cubins == tuple(without)
    assert "without 7.0, which CUDA 13.0 cannot compile" in found.reason
    for wanted, gpus in (("7.0;8.0", ()), (None, ("7.0",))):
        with pytest.raises(ArchError) as caught:
            choose(wanted, newest, the_matrix, gpus)
        text = str(caught.value)
        assert "7.0, which CUDA 13.0 cannot compile for" in text
        assert f"it compiles for {' '.join(without)}" in text
        assert "`nvcc --version` and `${CUDA_HOME}/bin/nvcc --version`" in text


@pytest.mark.parametrize(
    ("version", "known", "unknown"),
    [
        ("11.8", "70 90", "90a 100"),
        ("12.1", "70 87 90 90a", "100 120"),
        ("12.9", "70 90a 100 100f 103 120 121", "110"),
    ],
)
def test_nvrtc_knows_what_the_matrix_says(
    the_matrix: Matrix, version: str, known: str, unknown: str
) -> None:
    probe = (sys.executable, str(NVRTCC), f"--toolkit={toolkit_folder(version)}")
    compiler = Compiler(version, "", probe)
    for code in known.split():
        assert compiler.can_compile(f"sm_{code}"), code
    for code in unknown.split():
        assert not compiler.can_compile(f"sm_{code}"), code
    assert compiler.can_compile("compute_90")


DRIVER = """\
int cuInit(unsigned flags) { return %(init)s; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == 75 ? 8 + device : attribute == 76 ? 0 : -1;
  return 0;
}
"""


@pytest.mark.parametrize(("init", "found"), [("0", "['8.0', '9.0']"), ("100", "[]")])
def test_the_driver_is_asked_for_the_gpus(tmp_path: Path, init: str, found: str) -> None:
    (tmp_path / "libcuda.so.1").write_bytes(extension(tmp_path, DRIVER % {"init": init}))
    backend = str(Path(archs.__file__).parent)
    code = f"import sys; sys.path[:0] = [{backend!r}, {str(Path(backend).parent)!r}]\n"
    code += "import archs; print(archs.gpus_here())"
    environ = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environ, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == found
