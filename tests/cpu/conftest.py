"""Compiles parts of csrc/cpu with the release's compiler, to test them from C++."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Callable, List

import pytest

CSRC = Path(__file__).parents[2] / "csrc"

# As in cmake/add_host_library.cmake.
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
ISA_FLAGS = {"baseline": [], "avx2": AVX2, "avx512": [*AVX2, *AVX512]}
ARM_FLAGS = {"neon": [], "bf16": ["-mcpu=generic+bf16+fp16fml"]}
TARGETS = {"x86_64": "x86_64-linux-gnu.2.5", "aarch64": "aarch64-linux-gnu.2.17"}


@pytest.fixture(scope="session")
def compile_cpp(tmp_path_factory) -> Callable[..., Path]:
    """compile_cpp(sources, *flags): the program, or with "-c" the object, that they become."""
    pytest.importorskip("ziglang", reason="the releases' compiler, ziglang, is not installed")

    def compile_(sources: List[Path], *flags: str, processor: str = "x86_64") -> Path:
        out = tmp_path_factory.mktemp("compiled") / sources[0].stem
        command = [sys.executable, "-m", "ziglang", "c++", "-target", TARGETS[processor]]
        options = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", f"-I{CSRC}"]
        subprocess.run([*command, *options, *flags, *map(str, sources), "-o", str(out)], check=True)
        return out

    return compile_
