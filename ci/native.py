"""What CMake is told about native code, from the matrix: cmake/read_options.cmake as a function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ci.matrix import Cuda, Matrix


@dataclass(frozen=True)
class DeviceCompiler:
    """How device code of one variant is compiled: by an nvcc, or by NVRTC from a toolkit folder."""

    variant: str
    archs: tuple[str, ...]  # compute capabilities that get a cubin: "8.0", "9.0a"
    ptx: tuple[str, ...]
    nvcc: Optional[Path] = None
    nvcc_words: Optional[Path] = None  # a file of what it says of itself
    toolkit: Optional[Path] = None  # where the wheels of the matrix were unpacked

    @classmethod
    def nvrtc(cls, cuda: Cuda, toolkit: Path) -> DeviceCompiler:
        return cls(cuda.variant, cuda.archs, cuda.ptx, toolkit=toolkit)


def arch_digits(capability: str) -> str:
    """``90a`` for ``9.0a``, as in ``sm_90a`` and ``compute_90a``."""
    return capability.replace(".", "")


def toolkit_requirements(cuda: Cuda) -> str:
    """A requirements file for pip's hash-checking mode; a toolkit folder keeps the one it is of."""
    return "".join(f"{pin.requirement} --hash=sha256:{pin.sha256}\n" for pin in cuda.toolkit)


def device_defines(compilers: Sequence[DeviceCompiler]) -> dict[str, str]:
    """The CMake variables that make one configuration build device code of these variants."""
    defines = {"VLLM_VARIANTS": ";".join(compiler.variant for compiler in compilers)}
    for compiler in compilers:
        prefix = f"VLLM_{compiler.variant}"
        defines[f"{prefix}_ARCHS"] = ";".join(map(arch_digits, compiler.archs))
        defines[f"{prefix}_PTX"] = ";".join(map(arch_digits, compiler.ptx))
        # Both: the one that is not used may be set in CMake's cache, from an earlier build.
        defines[f"{prefix}_TOOLKIT"] = str(compiler.toolkit or "")
        defines[f"{prefix}_NVCC"] = str(compiler.nvcc or "")
        defines[f"{prefix}_NVCC_WORDS"] = str(compiler.nvcc_words or "")
    return defines


def release_defines(matrix: Matrix, source: Path, zig: Path) -> dict[str, str]:
    """The CMake variables of the release's own compiler, which is pinned."""
    return {
        "CMAKE_TOOLCHAIN_FILE": str(source / "cmake" / "zig-toolchain.cmake"),
        "VLLM_ZIG": str(zig),
        "VLLM_ZIG_TARGET": matrix.zig_target,
        "VLLM_WARNINGS_AS_ERRORS": "ON",
    }
