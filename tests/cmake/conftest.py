"""A small tree that is built whole: the real build files, a host library of one source, and kernels
of a few lines."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.backend.conftest import call_hook, copy_tree
from tests.ci.support.toolchain import toolkit_folder

SOURCES = {
    "csrc/bindings.cpp": """\
        #include "params/scale.h"
        extern "C" void* PyInit__C() { return nullptr; }
        """,
    "csrc/params/scale.h": "#pragma once\nstruct Params { float* x; };\n",
    "csrc/kernels/common/factor.cuh": """\
        #pragma once
        #if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
        #define SCALE 2.0f
        #else
        #define SCALE 3.0f
        #endif
        """,
    "csrc/kernels/scale/scaled.cu": """\
        #include "params/scale.h"
        #include "kernels/common/factor.cuh"
        extern "C" __global__ void scaled(Params p) { p.x[threadIdx.x] *= SCALE; }
        """,
    "csrc/kernels/scale/plain.cu": """\
        #include "params/scale.h"
        extern "C" __global__ void plain(Params p) { p.x[threadIdx.x] += 1; }
        """,
}
MakeTree = Callable[[], Path]


@pytest.fixture
def make_tree(tmp_path: Path) -> MakeTree:
    """Makes one more folder with the same tree."""
    whole = copy_tree(tmp_path / "whole")
    shutil.rmtree(whole / "csrc")
    for name, text in SOURCES.items():
        (whole / name).parent.mkdir(parents=True, exist_ok=True)
        (whole / name).write_text(re.sub("(?m)^ +", "", text))

    def make() -> Path:
        tree = tmp_path / f"tree{len(list(tmp_path.glob('tree*')))}"
        shutil.copytree(whole, tree)
        toolkit = tree / "build" / "toolkit" / "12.1"
        toolkit.parent.mkdir(parents=True)
        toolkit.symlink_to(toolkit_folder("12.1"))
        return tree

    return make


def build(tree: Path, environ: dict[str, str]) -> str:
    """A wheel of `tree`; returns what the build said."""
    done = call_hook(tree, "build_wheel(OUT)", tree / "dist", **environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def compiled(said: str) -> list[str]:
    """The units that ninja built: ``sm_80/plain.cubin``, ``bindings.cpp.o``."""
    return sorted(
        name.rpartition("csrc/")[2] if name.endswith(".o") else name
        for name in re.findall(r"\] Building (?:CUDA \S+|CXX object) (\S+)", said)
    )


def ninja(tree: Path, environ: dict[str, str], *options: str) -> str:
    """Goes on where the last build ended."""
    done = subprocess.run(
        ["ninja", *options],
        cwd=tree / "build" / "development",
        env={**os.environ, **environ},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout
