"""Which instruction set the CPU kernels use, and how to select another."""

from __future__ import annotations

import ctypes
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ARM = platform.machine() == "aarch64"

# What Linux calls what each set is compiled for: in /proc/cpuinfo, which lists a flag only where it
# also saves the registers; on Arm by the bits of HWCAPS.
X86_FLAGS = {
    "avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma", "f16c"},
    "avx2": {"avx2", "fma", "f16c"},
    "baseline": set(),
}
ARM_FLAGS = {"bf16": {"asimdfhm", "bf16"}, "neon": set()}
FLAGS = ARM_FLAGS if ARM else X86_FLAGS

# (entry of the auxiliary vector, bit), from the kernel's <asm/hwcap.h>: an emulator's /proc/cpuinfo
# is that of the machine below.
HWCAPS = {"asimdfhm": (16, 23), "bf16": (26, 14)}


def available() -> list:
    """The sets that this machine can run, best first."""
    if ARM:
        getauxval = ctypes.CDLL(None).getauxval
        getauxval.argtypes, getauxval.restype = [ctypes.c_ulong], ctypes.c_ulong
        flags = {name for name, (entry, bit) in HWCAPS.items() if getauxval(entry) >> bit & 1}
        return [isa for isa, needed in FLAGS.items() if needed <= flags]
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            flags = set(line.split(":")[1].split())
            return [isa for isa, needed in FLAGS.items() if needed <= flags]
    raise AssertionError("/proc/cpuinfo lists no flags")


# What runs a program for another processor, where this one is emulated (ci/trial/arm64.py).
EMULATOR = shlex.split(os.environ.get("VLLM_TEST_EMULATOR", ""))


def run(code: str, **environment: str) -> subprocess.CompletedProcess:
    """`code` in a new process: the choice is made once in each."""
    return subprocess.run(
        [*EMULATOR, sys.executable, "-c", "from vllm import _C; " + code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_best_set_is_taken():
    assert run("print(_C.cpu_isa())", VLLM_CPU_ISA="").stdout.split() == [available()[0]]


@pytest.mark.parametrize("isa", FLAGS)
def test_a_lesser_set_can_be_asked_for(isa):
    done = run("print(_C.cpu_isa())", VLLM_CPU_ISA=isa)
    if isa in available():
        assert done.stdout.split() == [isa]
    else:
        assert f"ValueError: VLLM_CPU_ISA is '{isa}'" in done.stderr


def test_an_unknown_set_is_an_error_of_every_op():
    code = (
        "import numpy as np; x = np.ones((2, 8), np.float32)\n"
        "for _ in range(2):\n"
        "    try: _C.rms_norm(x, x, np.ones(8, np.float32), 1e-6)\n"
        "    except ValueError as error: print(error)\n"
    )
    message = (
        "VLLM_CPU_ISA is 'sse9': this machine can run "
        f"{', '.join(available())} (unset it for the best of them)"
    )
    assert run(code, VLLM_CPU_ISA="sse9").stdout.splitlines() == [message] * 2
