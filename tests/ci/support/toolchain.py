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
def toolkit_folder(version: str) -> Path:
    """NVRTC of a CUDA version, where `python -m ci build` keeps it."""
    console = Console(quiet=True)
    with locked(ROOT / "build" / ".lock", console.print):
        found = matrix.load().toolkits[version]
        return toolkit.fetch([found], ROOT / "build" / "toolkit", console)[version]


def nvrtcc(version: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs cmake/nvrtcc.py with the compiler of a CUDA version."""
    command = [sys.executable, str(NVRTCC), f"--toolkit={toolkit_folder(version)}", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@functools.cache
def device_code(variant: str, capability: str, form: str) -> bytes:
    """A cubin or PTX of a kernel that does next to nothing, as a variant has it for a GPU."""
    (version,) = {
        code.toolkit.version
        for code in matrix.load().variant(variant).code
        if capability in (code.archs if form == "cubin" else code.ptx)
    } or {matrix.load().variant(variant).toolkits[0].version}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "k.cu").write_text('extern "C" __global__ void k(float* x) { *x = 1; }\n')
        prefix = "sm" if form == "cubin" else "compute"
        arch = f"--gpu-architecture={prefix}_{arch_digits(capability)}"
        done = nvrtcc(version, arch, f"-{form}", "-o", "out", "k.cu", cwd=folder)
        assert done.returncode == 0, done.stderr
        return (folder / "out").read_bytes()


def extension(folder: Path, source: str, target: str = "") -> bytes:
    """A shared library of C code, by zig for `target` (the matrix's unless named)."""
    (folder / "module.c").write_text(source)
    target = target or matrix.load().main.zig_target
    command = [str(find_zig()), "cc", "-target", target, "-shared", "-fPIC", "-O2", "-s"]
    command += ["-Wl,--build-id=sha1", "-o", "module.so", "module.c"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return (folder / "module.so").read_bytes()


@functools.cache
def with_symbols(source: str, target: str = "") -> tuple[bytes, bytes]:
    """A shared library of C++ code in csrc/module.cpp, and its debug symbols, as in a release."""
    zig = find_zig()
    target = target or matrix.load().main.zig_target
    with tempfile.TemporaryDirectory(prefix="of two words ") as temporary:
        folder = Path(temporary)
        (folder / "csrc").mkdir()
        (folder / "csrc" / "module.cpp").write_text(source)
        compiler = [str(zig), "c++", "-target", target, "-fPIC", "-O1"]
        mapped = [f"-ffile-prefix-map={folder}/=", f"-ffile-prefix-map={zig.parent}/=zig/"]
        compile_it = [*compiler, "-g", "-gdwarf-4", "-fdebug-compilation-dir=.", *mapped, "-c"]
        link = [sys.executable, str(ROOT / "cmake" / "link_twice.py"), "_C.debug", *compiler]
        link += ["-shared", "-s", "-Wl,--build-id=sha1", "-o", "_C.abi3.so"]
        link.append(str(folder / "module.o"))
        for command in ([*compile_it, str(folder / "csrc" / "module.cpp"), "-o", "module.o"], link):
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return (folder / "_C.abi3.so").read_bytes(), (folder / "_C.debug").read_bytes()
