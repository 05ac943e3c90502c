"""Which device code a GPU would run: decided from folder names, without a GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vllm import _C

CU118 = ["sm_70", "sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "compute_90"]
CU121 = [*CU118, "sm_90a"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A function that fills the code folder with architectures."""

    def fill(names):
        for name in names:
            (tmp_path / name).mkdir()
        monkeypatch.setenv("VLLM_KERNEL_DIR", str(tmp_path))
        return tmp_path

    return fill


@pytest.mark.parametrize(
    ("names", "capability", "chosen"),
    [
        (CU118, (7, 0), "sm_70"),
        (CU118, (7, 2), "sm_70"),
        (CU118, (7, 5), "sm_75"),
        (CU118, (8, 0), "sm_80"),
        (CU118, (8, 6), "sm_86"),
        (CU118, (8, 7), "sm_86"),
        (CU118, (8, 9), "sm_89"),
        (CU118, (9, 0), "sm_90"),
        (CU121, (9, 0), "sm_90a"),
        (CU121, (10, 0), "compute_90"),
        (CU121, (12, 1), "compute_90"),
        (["sm_90a", "sm_80", "compute_80"], (9, 1), "compute_80"),
        (["sm_100", "sm_100f"], (10, 0), "sm_100f"),
        (["sm_100", "sm_100a", "sm_100f"], (10, 0), "sm_100a"),
        (["sm_100a", "sm_100f", "sm_103"], (10, 3), "sm_103"),
        (["sm_100a", "sm_103f", "compute_90"], (10, 0), "sm_100a"),
        (["sm_103f", "compute_90"], (10, 0), "compute_90"),
        (["sm_100f", "compute_90"], (11, 0), "compute_90"),
        (["compute_100f", "compute_90"], (10, 3), "compute_100f"),
        (["compute_100f", "compute_90"], (12, 0), "compute_90"),
        (["sm_100", "sm_103", "sm_120", "compute_90"], (10, 3), "sm_103"),
        (["sm_100", "sm_103", "sm_120", "compute_90"], (12, 1), "sm_120"),
        (["compute_70", "compute_80", "compute_90"], (8, 9), "compute_80"),
        (["compute_90a", "compute_70"], (9, 0), "compute_90a"),
        (["compute_90a", "compute_70"], (10, 0), "compute_70"),
        (["sm_80", "sm_80b", "sm_9", "sm_banana", "notes", "sm_", "compute_"], (8, 0), "sm_80"),
    ],
)
def test_the_best_that_runs_is_chosen(folder, names, capability, chosen):
    folder(names)
    assert _C.select_code(*capability) == chosen


@pytest.mark.parametrize(
    ("names", "capability", "held", "taken"),
    [
        (CU121, (6, 1), ", ".join(sorted(CU121)), "it takes sm_60 to sm_61, or PTX"),
        (["sm_80"], (9, 0), "holds sm_80", "PTX of compute capability 9.0 or lower"),
        (["sm_90a"], (9, 1), "holds sm_90a", "sm_90 to sm_91"),
        ([], (9, 0), "holds nothing", "compute_XY"),
    ],
)
def test_no_fitting_code_is_an_error_that_lists_what_there_is(
    folder, names, capability, held, taken
):
    path = folder(names)
    with pytest.raises(RuntimeError) as raised:
        _C.select_code(*capability)
    message = str(raised.value)
    assert f"no GPU code for compute capability {capability[0]}.{capability[1]}" in message
    assert str(path) in message
    assert held in message
    assert taken in message


CAPTURED = {"capture_output": True, "text": True, "check": False}


def run_beside(package: Path, code: str) -> str:
    """Runs code with a copy of the native module in `package`, and no VLLM_KERNEL_DIR."""
    shutil.copy(_C.__file__, package / "_C.abi3.so")
    done = subprocess.run(
        [sys.executable, "-c", f"import _C\n{code}"],
        cwd=package,
        env={"PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


TRY = "try: print(_C.code_folder())\nexcept RuntimeError as error: print(error)"


def test_the_folder_beside_the_library_is_used(tmp_path):
    (tmp_path / "kernels" / "cu121" / "sm_80").mkdir(parents=True)
    assert run_beside(tmp_path, TRY) == str(tmp_path / "kernels" / "cu121")


def test_a_relative_folder_begins_where_the_process_began(tmp_path):
    code = "import os; os.environ['VLLM_KERNEL_DIR'] = 'mine'; os.chdir('/')\n"
    assert run_beside(tmp_path, f"{code}print(_C.code_folder())") == f"{tmp_path}/mine"


def test_a_build_without_gpu_code_says_so(tmp_path):
    said = run_beside(tmp_path, TRY)
    assert "this build of vllm has no GPU code" in said
    assert str(tmp_path / "kernels") in said


def test_a_folder_whose_name_is_no_text_is_named_as_python_names_it(tmp_path):
    package = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    package.mkdir()
    shutil.copy(_C.__file__, package / "_C.abi3.so")
    importing = [sys.executable, "-c", "import _C"]
    tried = subprocess.run(importing, cwd=package, env={"PYTHONPATH": str(package)}, **CAPTURED)
    if tried.returncode:
        assert "UnicodeEncodeError" in tried.stderr
        pytest.skip("this Python loads no extension from a folder whose name is not UTF-8")
    in_ascii = TRY.replace("print(_C.code_folder())", "print(ascii(_C.code_folder()))")
    in_ascii = in_ascii.replace("print(error)", "print(ascii(str(error)))")
    assert ascii(str(package / "kernels"))[1:-1] in run_beside(package, in_ascii)
    (package / "kernels" / "cu121").mkdir(parents=True)
    assert run_beside(package, in_ascii) == ascii(str(package / "kernels" / "cu121"))


def test_two_variants_are_an_error(tmp_path):
    (tmp_path / "kernels" / "cu118").mkdir(parents=True)
    (tmp_path / "kernels" / "cu121").mkdir()
    said = run_beside(tmp_path, TRY)
    assert "several builds (cu118, cu121)" in said
    assert "install again" in said


def test_nothing_is_loaded_before_it_runs():
    code = "from vllm import _C; _C.cpu_isa(); print(_C.loaded_kernels())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
