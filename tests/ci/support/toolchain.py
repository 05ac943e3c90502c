"""The release's own compilers, for tests that need real native files."""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from ci import matrix
from ci.builder import toolkit
from ci.builder.canonical import find_zig
from ci.lock import locked
from ci.native import arch_digits

ROOT = Path(__file__).parents[3]
NVRTCC = ROOT / "cmake" / "nvrtcc.py"


@functools.cache
def toolkit_folder(variant: str) -> Path:
    """NVRTC and headers of a variant, where `python -m ci build` keeps them."""
    console = Console(quiet=True)
    with locked(ROOT / "build" / ".lock", console.print):
        cuda = matrix.load().variant(variant)
        return toolkit.fetch([cuda], ROOT / "build" / "toolkit", console)[variant]


def nvrtcc(variant: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs cmake/nvrtcc.py for a variant."""
    command = [sys.executable, str(NVRTCC), f"--toolkit={toolkit_folder(variant)}", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@functools.cache
def device_code(variant: str, capability: str, form: str) -> bytes:
    """A cubin or PTX of a kernel that does next to nothing, for one compute capability."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "k.cu").write_text('extern "C" __global__ void k(float* x) { *x = 1; }\n')
        prefix = "sm" if form == "cubin" else "compute"
        arch = f"--gpu-architecture={prefix}_{arch_digits(capability)}"
        done = nvrtcc(variant, arch, f"-{form}", "-o", "out", "k.cu", cwd=folder)
        assert done.returncode == 0, done.stderr
        return (folder / "out").read_bytes()


def extension(folder: Path, source: str, target: str = "") -> bytes:
    """A shared library of C code, by zig for `target` (the matrix's unless named)."""
    (folder / "module.c").write_text(source)
    target = target or matrix.load().zig_target
    command = [str(find_zig()), "cc", "-target", target, "-shared", "-fPIC", "-O2", "-s"]
    command += ["-o", "module.so", "module.c"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return (folder / "module.so").read_bytes()
