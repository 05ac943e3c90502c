"""The CMake variables for native code (cmake/read_options.cmake), computed from the matrix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ci.matrix import Cuda, Platform, Toolkit


@dataclass(frozen=True)
class DeviceCompiler:
    """A compiler of one variant's device code: an nvcc, or NVRTC in a toolkit folder.

    A variant may have several, each for different architectures.
    """

    variant: str
    version: str  # of its CUDA
    archs: tuple[str, ...]  # compute capabilities that get a cubin: "8.0", "9.0a"
    ptx: tuple[str, ...]
    nvcc: Optional[Path] = None
    nvcc_words: Optional[Path] = None  # a file with the output of `nvcc --version`
    toolkit: Optional[Path] = None  # where the pinned wheels were installed

    @property
    def key(self) -> str:
        """``129`` for 12.9: scikit-build-core reads a dot in the name of a variable as a table."""
        return self.version.replace(".", "")


def of_matrix(
    cuda: Cuda, processor: Optional[str], toolkits: Mapping[str, Path]
) -> list[DeviceCompiler]:
    """The compilers of a variant, with the archs of each in wheels for `processor` (None: for any).

    toolkits: CUDA version → folder of its compiler.
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
    """The (folder, file suffix) pairs in ``vllm/kernels/<variant>`` of wheels for `processor`."""
    for arch in cuda.archs(processor):
        yield f"sm_{arch_digits(arch)}", "cubin"
    for arch in cuda.ptx(processor):
        yield f"compute_{arch_digits(arch)}", "ptx"


def components(cuda: Cuda, processor: str) -> str:
    """The CMake components of one wheel; a configuration may contain more."""
    device_code = [f"{cuda.variant}-{folder}" for folder, _ in code_folders(cuda, processor)]
    return ";".join(["host", "info", *device_code])


def toolkit_requirements(toolkit: Toolkit) -> str:
    """A requirements file for pip's hash-checking mode; a copy identifies a toolkit folder."""
    return "".join(f"{pin.requirement} --hash=sha256:{pin.sha256}\n" for pin in toolkit.pins)


def toolkit_is_in(folder: Path, toolkit: Toolkit) -> bool:
    """Whether `folder` was installed from the pins of `toolkit`."""
    listing = folder / "requirements.txt"
    wanted = toolkit_requirements(toolkit)
    return listing.is_file() and listing.read_text(encoding="utf-8") == wanted


def device_defines(compilers: Sequence[DeviceCompiler]) -> dict[str, str]:
    """The CMake variables with which one configuration builds the device code of these variants."""
    variants = list(dict.fromkeys(compiler.variant for compiler in compilers))
    defines = {"VLLM_VARIANTS": ";".join(variants)}
    for variant in variants:
        keys = [each.key for each in compilers if each.variant == variant]
        defines[f"VLLM_{variant}_COMPILERS"] = ";".join(keys)
    for compiler in compilers:
        prefix = f"VLLM_{compiler.variant}_{compiler.key}"
        defines[f"{prefix}_ARCHS"] = ";".join(map(arch_digits, compiler.archs))
        defines[f"{prefix}_PTX"] = ";".join(map(arch_digits, compiler.ptx))
        # Both are set: CMake's cache may hold the unused one from an earlier build.
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
