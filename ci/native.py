"""What CMake is told about native code, from the matrix: cmake/read_options.cmake as a function."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ci.matrix import Cuda, Platform, Toolkit


@dataclass(frozen=True)
class DeviceCompiler:
    """What compiles device code of one variant: an nvcc, or NVRTC from a toolkit folder.

    A variant may have several, each for architectures of its own.
    """

    variant: str
    version: str  # of its CUDA
    archs: tuple[str, ...]  # compute capabilities that get a cubin: "8.0", "9.0a"
    ptx: tuple[str, ...]
    nvcc: Optional[Path] = None
    nvcc_words: Optional[Path] = None  # a file of what it says of itself
    toolkit: Optional[Path] = None  # where the wheels of the matrix were unpacked

    @property
    def key(self) -> str:
        """``129`` for 12.9: scikit-build-core reads a dot in the name of a variable as a table."""
        return self.version.replace(".", "")


def of_matrix(
    cuda: Cuda, processor: Optional[str], toolkits: Mapping[str, Path]
) -> list[DeviceCompiler]:
    """The compilers of a variant, and what each makes for wheels of `processor`; None: of any.

    toolkits: where each compiler is, by its CUDA version.
    """
    made = [code for code in cuda.code if processor is None or processor in code.processors]
    return [
        DeviceCompiler(
            cuda.variant,
            toolkit.version,
            tuple(arch for code in made if code.toolkit == toolkit for arch in code.archs),
            tuple(arch for code in made if code.toolkit == toolkit for arch in code.ptx),
            toolkit=toolkits[toolkit.version],
        )
        for toolkit in cuda.toolkits
        if any(code.toolkit == toolkit for code in made)
    ]


def arch_digits(capability: str) -> str:
    """``90a`` for ``9.0a``, as in ``sm_90a`` and ``compute_90a``."""
    return capability.replace(".", "")


def code_folders(cuda: Cuda, processor: str) -> Iterator[tuple[str, str]]:
    """What wheels for `processor` have in ``vllm/kernels/<variant>``: (folder, file suffix)."""
    for arch in cuda.archs(processor):
        yield f"sm_{arch_digits(arch)}", "cubin"
    for arch in cuda.ptx(processor):
        yield f"compute_{arch_digits(arch)}", "ptx"


def components(cuda: Cuda, processor: str) -> str:
    """What CMake installs for a wheel, of a configuration that may hold more."""
    device_code = [f"{cuda.variant}-{folder}" for folder, _ in code_folders(cuda, processor)]
    return ";".join(["host", "info", *device_code])


def toolkit_requirements(toolkit: Toolkit) -> str:
    """A requirements file for pip's hash-checking mode; a toolkit folder keeps the one it is of."""
    return "".join(f"{pin.requirement} --hash=sha256:{pin.sha256}\n" for pin in toolkit.pins)


def toolkit_is_in(folder: Path, toolkit: Toolkit) -> bool:
    """Whether `folder` was made from the pins of `toolkit`."""
    listing = folder / "requirements.txt"
    wanted = toolkit_requirements(toolkit)
    return listing.is_file() and listing.read_text(encoding="utf-8") == wanted


def device_defines(compilers: Sequence[DeviceCompiler]) -> dict[str, str]:
    """The CMake variables that make one configuration build device code of these variants."""
    variants = list(dict.fromkeys(compiler.variant for compiler in compilers))
    defines = {"VLLM_VARIANTS": ";".join(variants)}
    for variant in variants:
        keys = [each.key for each in compilers if each.variant == variant]
        defines[f"VLLM_{variant}_COMPILERS"] = ";".join(keys)
    for compiler in compilers:
        prefix = f"VLLM_{compiler.variant}_{compiler.key}"
        defines[f"{prefix}_ARCHS"] = ";".join(map(arch_digits, compiler.archs))
        defines[f"{prefix}_PTX"] = ";".join(map(arch_digits, compiler.ptx))
        # Both: the one that is not used may be set in CMake's cache, from an earlier build.
        defines[f"{prefix}_TOOLKIT"] = str(compiler.toolkit or "")
        defines[f"{prefix}_NVCC"] = str(compiler.nvcc or "")
        defines[f"{prefix}_NVCC_WORDS"] = str(compiler.nvcc_words or "")
    return defines


def release_defines(platform: Platform, source: Path, zig: Path) -> dict[str, str]:
    """The CMake variables of the release's own compiler, which is pinned."""
    return {
        "CMAKE_TOOLCHAIN_FILE": str(source / "cmake" / "zig-toolchain.cmake"),
        "VLLM_ZIG": str(zig),
        "VLLM_ZIG_TARGET": platform.zig_target,
        "VLLM_WARNINGS_AS_ERRORS": "ON",
        "VLLM_DEBUG_SYMBOLS": "ON",
    }
