"""Inputs that CMake reads once: changed compilers, flags and generators are used, and reported."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.backend.conftest import call_hook
from tests.cmake.conftest import MakeTree, build, compiled

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler here")
AFRESH = "configuring and compiling everything again"
CPU = {"VLLM_TARGET_DEVICE": "cpu", "CCACHE_DISABLE": "1"}


@pytest.fixture
def tree(make_tree: MakeTree) -> Path:
    return make_tree()


def script(path: Path, text: str) -> str:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def fails(tree: Path, **environ: str) -> str:
    done = call_hook(tree, "build_wheel(OUT)", tree / "dist", **{**CPU, **environ})
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_a_compiler_that_failed_once_is_not_kept(tree: Path, tmp_path: Path) -> None:
    """Neither one that does not answer, nor one that CMake finds out about."""
    said = fails(tree, CXX="false")
    assert "CXX is 'false', and `" in said
    assert "unset it to use the c++, g++ or clang++ on PATH" in said
    broken = script(tmp_path / "broken", '[ "$1" = --version ] && exec c++ --version; exit 1')
    fails(tree, CXX=broken)
    said = build(tree, CPU)
    assert "its last configuration did not finish" in said
    assert compiled(said) == ["bindings.cpp.o"]


def test_another_generator_for_one_build(tree: Path) -> None:
    said = build(tree, {**CPU, "CMAKE_GENERATOR": "Unix Makefiles"})
    assert (tree / "build" / "development" / "Makefile").exists()
    said = build(tree, CPU)
    assert f"{AFRESH}: CMAKE_GENERATOR changed from Unix Makefiles to not set" in said
    assert compiled(said) == ["bindings.cpp.o"]


def test_flags_come_and_go(tree: Path) -> None:
    flags = {
        "CMAKE_ARGS": "-DX=1",
        "CPLUS_INCLUDE_PATH": "/opt/x",
        "CXXFLAGS": "-DX=1",
        "LDFLAGS": "-Wl,--as-needed",
        "SKBUILD_CMAKE_BUILD_TYPE": "Debug",
    }
    build(tree, CPU)
    assert compiled(build(tree, CPU)) == []
    said = build(tree, {**CPU, **flags})
    for name, value in flags.items():
        assert f"{AFRESH}: {name} changed from not set to {value}" in said
    assert compiled(said) == ["bindings.cpp.o"]
    assert AFRESH not in build(tree, {**CPU, **flags})
    said = build(tree, CPU)
    assert f"{AFRESH}: CXXFLAGS changed from -DX=1 to not set" in said


def test_another_compiler_of_the_same_name(tree: Path, tmp_path: Path) -> None:
    """An upgrade, or another folder on PATH; and a relative one is none of the build folder's."""
    own = {**CPU, "PATH": f"tools:{Path(shutil.which('ninja') or '').parent}:/usr/bin:/bin"}
    version = '[ "$1" = --version ] && echo own 1.0 && exit; exec /usr/bin/c++ "$@"'
    script(tree / "tools" / "c++", version)
    said = build(tree, own)
    assert f"own 1.0, {tree}/tools/c++ (by PATH)" in said
    script(tree / "tools" / "c++", version.replace("1.0", "2.0"))
    said = build(tree, own)
    assert f"{AFRESH}: the host compiler changed from own 1.0 to own 2.0" in said
    assert compiled(said) == ["bindings.cpp.o"]
    said = build(tree, {**CPU, "CXX": "tools/c++"})
    assert f"own 2.0, {tree}/tools/c++ (by CXX)" in said


def test_builds_that_compile_nothing_leave_what_is_compiled(tree: Path) -> None:
    build(tree, CPU)
    build(tree, {"VLLM_TARGET_DEVICE": "empty", "CXXFLAGS": "-DX=1"})
    said = build(tree, CPU)
    assert AFRESH not in said
    assert compiled(said) == []


NVCC = """\
case $1 in --version) echo 'Cuda compilation tools, release 12.8, V'; exit ;; --dryrun) exit ;; esac
while [ $# -gt 0 ]; do
  case $1 in -o) output=$2 ;; -MF) depfile=$2 ;; esac
  source=$1; shift
done
echo device code > $output; echo $output: $source > $depfile
"""


def test_an_nvcc_in_the_place_of_another_compiles_device_code_anew(
    tree: Path, tmp_path: Path
) -> None:
    """Of the same CUDA, path and time, as a link that is moved gives it; and with other flags."""
    path = Path(script(tmp_path / "cuda" / "bin" / "nvcc", NVCC))
    cuda = {"CUDA_HOME": str(tmp_path / "cuda"), "TORCH_CUDA_ARCH_LIST": "8.0"}
    cuda["CCACHE_DISABLE"] = "1"
    cubins = ["sm_80/plain.cubin", "sm_80/scaled.cubin"]
    assert compiled(build(tree, cuda)) == ["bindings.cpp.o", *cubins]
    assert compiled(build(tree, cuda)) == []
    before = path.stat()
    path.write_text(path.read_text().replace("release 12.8, V", "release 12.8, V12.8.93"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert compiled(build(tree, cuda)) == cubins
    assert compiled(build(tree, {**cuda, "NVCC_APPEND_FLAGS": "-G"})) == cubins
    assert compiled(build(tree, CPU)) == []
    assert compiled(build(tree, {**cuda, "NVCC_APPEND_FLAGS": "-G"})) == []


def test_settings_of_the_frontend_come_and_go(tree: Path) -> None:
    hook = "build_wheel(OUT, {'cmake.define.X': '1'})"
    assert call_hook(tree, hook, tree / "dist", **CPU).returncode == 0
    said = build(tree, CPU)
    assert f"{AFRESH}: the setting cmake.define.X changed from 1 to not set" in said
