"""Which file of device code runs, and the error if it is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vllm import _C
from vllm.version import build

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
PTX = ROOT / "build" / "test-ptx"  # made by make_ptx.py, beside this file

TRY_AN_OP = """
import json, torch
from vllm import _C, ops
x = torch.ones(2, 64, device="cuda")
said = ""
try:
    ops.rms_norm(torch.empty_like(x), x, x[0], 0.0)
    torch.cuda.synchronize()
except RuntimeError as error:
    said = str(error)
print(json.dumps(dict(said=said, loaded=_C.loaded_kernels())))
"""


def best_arch(names: list, major: int, minor: int) -> str:
    """The design in other words than the library's: the highest folder that this GPU can run."""
    exact = f"sm_{major}{minor}a"
    if exact in names:
        return exact
    cubins = [n for n in names if re.fullmatch(rf"sm_{major}\d", n) and int(n[-1]) <= minor]
    if cubins:
        return max(cubins)
    ptx = [n for n in names if re.fullmatch(r"compute_\d+", n)]
    return max((n for n in ptx if int(n[8:]) <= 10 * major + minor), key=lambda n: int(n[8:]))


def test_the_code_of_this_gpu_is_what_runs(sample, run_ops, assert_right):
    one = sample("cuda")
    assert_right(run_ops(one), one)
    folder = Path(_C.code_folder())
    names = [each.name for each in folder.iterdir()]
    arch = best_arch(names, *torch.cuda.get_device_capability(0))
    suffix = ".ptx" if arch.startswith("compute") else ".cubin"
    loaded = {path for device, path in _C.loaded_kernels() if device == 0}
    expected = {str(folder / arch / (n + suffix)) for n in ("rms_norm", "activation", "rotary")}
    assert expected <= loaded
    assert {Path(path).parent.name for path in loaded} == {arch}
    print(f"ran {folder.name}/{arch} on {torch.cuda.get_device_name(0)}")


@pytest.fixture
def code(tmp_path):
    """A copy of the code folder that a test may spoil, and the folder in it that would run."""
    folder = tmp_path / "code"
    shutil.copytree(_C.code_folder(), folder)
    names = [each.name for each in folder.iterdir()]
    return folder, folder / best_arch(names, *torch.cuda.get_device_capability(0))


def test_a_missing_file_is_an_error_that_says_so(run_fresh, code):
    folder, arch = code
    (arch / "rms_norm.cubin").unlink()
    answer = run_fresh(TRY_AN_OP, VLLM_KERNEL_DIR=str(folder))
    assert f"{arch / 'rms_norm.cubin'} is missing" in answer["said"]
    assert "pip install --force-reinstall" in answer["said"]
    assert answer["loaded"] == []


def test_a_file_that_cannot_be_read_is_an_error_that_says_so(run_fresh, code):
    """It can be opened, as a folder can."""
    folder, arch = code
    (arch / "rms_norm.cubin").unlink()
    (arch / "rms_norm.cubin").mkdir()
    said = run_fresh(TRY_AN_OP, VLLM_KERNEL_DIR=str(folder))["said"]
    assert f"{arch / 'rms_norm.cubin'} is missing or cannot be read" in said


def test_no_fitting_architecture_is_an_error_that_lists_what_there_is(run_fresh, code):
    folder, _ = code
    for arch in folder.iterdir():
        if arch.name != "sm_70":
            shutil.rmtree(arch)
    if torch.cuda.get_device_capability(0)[0] == 7:
        pytest.skip("this GPU runs sm_70")
    said = run_fresh(TRY_AN_OP, VLLM_KERNEL_DIR=str(folder))["said"]
    assert "no GPU code for cuda:0" in said
    assert torch.cuda.get_device_name(0) in said
    assert "holds sm_70" in said


@pytest.mark.parametrize("content", [b"", b"not an ELF file"], ids=["empty", "text"])
def test_a_damaged_file_is_an_error_that_names_it(run_fresh, code, content):
    folder, arch = code
    file = arch / "rms_norm.cubin"
    file.write_bytes(content)
    said = run_fresh(TRY_AN_OP, VLLM_KERNEL_DIR=str(folder))["said"]
    assert "cuModuleLoadDataEx failed: CUDA_ERROR_" in said
    assert str(file) in said


@pytest.mark.parametrize("size", [5, 63, 200, -1], ids=str)
def test_a_file_that_is_cut_off_never_reaches_the_driver(run_fresh, code, size):
    """The driver crashes on one: it is told an address, and no length."""
    folder, arch = code
    file = arch / "rms_norm.cubin"
    file.write_bytes(file.read_bytes()[:size])
    said = run_fresh(TRY_AN_OP, VLLM_KERNEL_DIR=str(folder))["said"]
    assert f"{file} is cut off" in said


def test_code_of_another_architecture_is_an_error_that_names_it(run_fresh, code):
    folder, arch = code
    other = "sm_70" if arch.name != "sm_70" else "sm_80"
    shutil.copy(folder / other / "rms_norm.cubin", arch)
    said = run_fresh(TRY_AN_OP, VLLM_KERNEL_DIR=str(folder))["said"]
    assert "cuModuleLoadDataEx failed: CUDA_ERROR_NO_BINARY_FOR_GPU" in said


def test_ptx_that_does_not_compile_shows_the_compiler_s_words(run_fresh, code):
    folder, _ = code
    for arch in list(folder.iterdir()):
        if arch.name != "compute_90":
            shutil.rmtree(arch)
    if torch.cuda.get_device_capability(0) < (9, 0):
        pytest.skip("this GPU does not run PTX for 9.0")
    ptx = folder / "compute_90" / "rms_norm.ptx"
    ptx.write_text(ptx.read_text().replace("ld.param.u64", "ld.parrot.u64", 1))
    said = run_fresh(TRY_AN_OP, VLLM_KERNEL_DIR=str(folder))["said"]
    assert str(ptx) in said
    assert "ptxas" in said


@pytest.mark.parametrize("variant", ["cu118", "cu121"])
@pytest.mark.parametrize("arch", ["compute_70", "compute_75", "compute_80", "compute_90"])
def test_the_ops_pass_through_ptx(run_fresh, variant, arch):
    """The code paths of older GPUs: the op tests on CUDA again, on PTX that the driver compiles."""
    folder = PTX / variant / arch
    if not folder.is_dir():
        pytest.skip(f"no {folder.relative_to(ROOT)}: python tests/gpu/make_ptx.py makes it")
    if build().variant not in (variant, None):
        pytest.skip(f"the {build().variant} build is installed; {variant} tests its own")
    major, minor = int(arch[-2]), int(arch[-1])
    if torch.cuda.get_device_capability(0) < (major, minor):
        pytest.skip(f"this GPU does not run PTX for {major}.{minor}")
    answer = run_fresh(TRY_AN_OP, VLLM_KERNEL_DIR=str(folder))
    assert answer == {"said": "", "loaded": [[0, str(folder / arch / "rms_norm.ptx")]]}
    here = [str(Path(__file__).with_name(f"test_{name}.py")) for name in ("kernels", "attention")]
    tests = [str(ROOT / "tests" / "ops"), *here]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-k", "not more_", *tests],
        env={**os.environ, "VLLM_KERNEL_DIR": str(folder)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout[-4000:]
