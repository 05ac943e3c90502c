"""``import vllm`` is cheap, and works where torch, NumPy or compiled code is missing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import vllm


def run(code: str, *flags: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *flags, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


NEITHER = "import sys; sys.modules['torch'] = sys.modules['numpy'] = None\n"


@pytest.fixture
def without_native(tmp_path):
    """PYTHONPATH for the package as an `empty` build has it.

    Takes -S: an editable installation comes before PYTHONPATH.
    """
    source = Path(vllm.__file__).parent
    ignored = shutil.ignore_patterns("*.so", "kernels", "__pycache__")
    shutil.copytree(source, tmp_path / "vllm", ignore=ignored)
    return str(tmp_path)


@pytest.mark.skipif(
    Path("/proc/driver/nvidia/version").exists(),
    reason="beside an NVIDIA driver, the import also looks at the GPUs",
)
def test_importing_vllm_imports_nothing_else_of_it():
    code = "import sys, vllm; print(sorted(n for n in sys.modules if n.split('.')[0] == 'vllm'))"
    assert run(code) == "['vllm']"


def test_ops_need_neither_torch_nor_numpy():
    code = (
        "import ctypes, vllm, vllm.ops as ops, vllm.platform\n"
        "class Array:\n"
        "    def __init__(self, *values):\n"
        "        self.memory = (ctypes.c_float * len(values))(*values)\n"
        "    @property\n"
        "    def __array_interface__(self):\n"
        "        data = (ctypes.addressof(self.memory), False)\n"
        "        return dict(version=3, shape=(len(self.memory),), typestr='<f4', data=data)\n"
        "out = Array(0, 0)\n"
        "ops.rms_norm(out, Array(3, -3), Array(1, 2), 0.0)\n"
        "print(list(out.memory))\n"
        "try: ops.rms_norm(out, [], out, 0.0)\n"
        "except TypeError as error: print(error)"
    )
    said = run(NEITHER + code).splitlines()
    assert said[0] == "[1.0, -2.0]"
    assert said[1].startswith("rms_norm: argument 'input' is a list")


def test_ops_do_not_import_torch():
    code = (
        "import sys, numpy as np, vllm.ops as ops; one = np.ones((1, 4), 'f4')\n"
        "ops.rms_norm(one, one, np.ones(4, 'f4'), 0.0); print('torch' in sys.modules)"
    )
    assert run(code) == "False"


def test_the_whole_engine_imports_neither_torch_nor_numpy():
    pytest.importorskip("tokenizers")
    code = (
        "import importlib, pkgutil, sys, vllm.engine\n"
        "names = [each.name for each in pkgutil.iter_modules(vllm.engine.__path__)]\n"
        "for name in names: importlib.import_module('vllm.engine.' + name)\n"
        "print(len(names) > 5, 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    assert run(code) == "True False False"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'vllm' has no attribute 'LLMs'"):
        vllm.LLMs  # noqa: B018


def test_lazy_names_are_listed():
    assert {"__version__", "__commit__"} <= set(dir(vllm))
    assert set(vllm.__all__) <= set(dir(vllm))


def test_a_build_without_compiled_code_says_so_when_an_op_is_called(without_native):
    code = (
        "import vllm, vllm.ops as ops\n"
        "try: ops.silu_and_mul(None, None)\n"
        "except ImportError as error: print(type(error).__name__, error)"
    )
    said = run(NEITHER + code, "-S", PYTHONPATH=without_native)
    assert said.startswith("NativeCodeError vllm.silu_and_mul needs compiled code")
    assert "VLLM_TARGET_DEVICE" in said


def test_compiled_code_that_does_not_load_is_told_apart(without_native):
    broken = Path(without_native) / "vllm" / "_C.abi3.so"
    broken.write_bytes(b"\x7fELF of another machine")
    code = (
        "import vllm.ops as ops\n"
        "try: ops.silu_and_mul(None, None)\n"
        "except ImportError as error: print(error)"
    )
    said = run(code, "-S", PYTHONPATH=without_native)
    assert "needs compiled code that cannot be loaded" in said
    assert "_C.abi3.so" in said


@pytest.mark.parametrize("kept", [100, 0.5, 0.99])
def test_compiled_code_that_was_cut_off_is_told_apart(without_native, kept):
    """The loader of glibc maps it, and the interpreter ends with SIGBUS."""
    whole = Path(importlib.util.find_spec("vllm._C").origin).read_bytes()
    size = kept if isinstance(kept, int) else int(len(whole) * kept)
    (Path(without_native) / "vllm" / "_C.abi3.so").write_bytes(whole[:size])
    code = (
        "import vllm.ops as ops\n"
        "try: ops.silu_and_mul(None, None)\n"
        "except ImportError as error: print(error)"
    )
    said = run(code, "-S", PYTHONPATH=without_native)
    assert f"_C.abi3.so was cut off: it has {size:,} of at least {len(whole):,} bytes" in said
