"""cmake/nvrtcc.py, with the real NVRTC of several CUDA versions."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import pytest

from ci.audit.device_code import cubin_arch
from tests.ci.support.toolchain import NVRTCC, ROOT, nvrtcc

KERNEL = """\
#include <cuda_fp16.h>
#include "inner/scale.cuh"
extern "C" __global__ void k(__half* x) { *x = __hmul(*x, SCALE); }
"""
SM_80 = "--gpu-architecture=sm_80"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A kernel with headers: one beside it, one beside that, and one on the include path."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "include").mkdir()
    (tmp_path / "k.cu").write_text(KERNEL)
    (tmp_path / "inner/scale.cuh").write_text('#include "more.cuh"\n # include "common.h"\n')
    (tmp_path / "inner/more.cuh").write_text("#pragma once\n#define SCALE __half(FACTOR)\n")
    (tmp_path / "include/common.h").write_text("#define FACTOR 2\n")
    return tmp_path


@pytest.mark.parametrize("version", ["11.8", "12.1"])
def test_a_cubin_and_its_depfile(source: Path, version: str) -> None:
    options = ["-cubin", "-Iinclude", "-MD", "-MF", "k.d", "-o", "k.cubin", "k.cu"]
    done = nvrtcc(version, SM_80, *options, cwd=source)
    assert (done.returncode, done.stderr) == (0, "")
    assert cubin_arch((source / "k.cubin").read_bytes()) == "sm_80"
    target, _, inputs = (source / "k.d").read_text().replace("\\\n", "").partition(":")
    assert target == "k.cubin"
    assert sorted(inputs.split()) == [
        "include/common.h",
        "inner/more.cuh",
        "inner/scale.cuh",
        "k.cu",
    ]


def test_ptx(source: Path) -> None:
    options = ["--gpu-architecture=compute_90", "-ptx", "-I", "include", "-o", "k.ptx", "k.cu"]
    assert nvrtcc("12.1", *options, cwd=source).returncode == 0
    text = (source / "k.ptx").read_text()
    assert "\n.target sm_90\n" in text
    assert "\0" not in text


def test_the_place_of_the_source_leaves_no_trace(source: Path, tmp_path: Path) -> None:
    options = ["-Iinclude", "-o", "k.cubin", "k.cu"]
    moved = source / "moved"
    for name in ("k.cu", "inner/scale.cuh", "inner/more.cuh", "include/common.h"):
        (moved / name).parent.mkdir(parents=True, exist_ok=True)
        (moved / name).write_text((source / name).read_text())
    for folder in (source, moved):
        assert nvrtcc("12.1", SM_80, *options, cwd=folder).returncode == 0
    assert (source / "k.cubin").read_bytes() == (moved / "k.cubin").read_bytes()


def test_an_error_is_told_in_nvrtcs_words_and_leaves_no_output(source: Path) -> None:
    (source / "k.cubin").write_text("stale")
    (source / "k.cu").write_text("__global__ void k() { nonsense; }\n")
    done = nvrtcc("12.1", SM_80, "-o", "k.cubin", "k.cu", cwd=source)
    assert done.returncode == 1
    assert 'k.cu(1): error: identifier "nonsense" is undefined' in done.stderr
    assert "nvrtcc: k.cu: errors for sm_80" in done.stderr
    assert not (source / "k.cubin").exists()


@pytest.mark.parametrize(("option", "status"), [([], 0), (["-Werror"], 1)])
def test_a_warning_is_shown_and_with_werror_fails(
    source: Path, option: list[str], status: int
) -> None:
    (source / "k.cu").write_text("__global__ void k() { int unused; }\n")
    done = nvrtcc("12.1", SM_80, *option, "-o", "k.cubin", "k.cu", cwd=source)
    assert done.returncode == status
    assert 'variable "unused" was declared but never referenced' in done.stderr
    assert (source / "k.cubin").exists() == (status == 0)


@pytest.mark.parametrize(
    ("log", "is_about_the_source"),
    [
        ("", False),
        ("nvrtc: warning: Architectures prior to '<compute/sm>_75' are deprecated\n", False),
        ('k.cu(1): warning #177-D: variable "x" was declared but never referenced\n', True),
        ("nvrtc: warning: old\nk.cu(1): warning #177-D: unused\n", True),
    ],
)
def test_a_warning_about_an_old_arch_is_not_an_error(log: str, is_about_the_source: bool) -> None:
    """What NVRTC 12.8 says of sm_70, word for word."""
    spec = importlib.util.spec_from_file_location("nvrtcc", NVRTCC)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.warns_of_source(log) == is_about_the_source


def test_an_arch_that_this_cuda_cannot_compile(source: Path) -> None:
    options = ["--gpu-architecture=sm_90a", "-Iinclude", "-o", "k.cubin", "k.cu"]
    done = nvrtcc("11.8", *options, cwd=source)
    assert done.returncode == 1
    assert "invalid value for --gpu-architecture" in done.stderr


def test_a_header_that_is_not_there(source: Path) -> None:
    (source / "inner/more.cuh").unlink()
    done = nvrtcc("12.1", SM_80, "-Iinclude", "-o", "k.cubin", "k.cu", cwd=source)
    assert done.returncode == 1
    assert "more.cuh" in done.stderr


def test_the_version_is_the_toolkits(tmp_path: Path) -> None:
    assert nvrtcc("11.8", "--version", cwd=tmp_path).stdout == "NVRTC 11.8\n"
    assert nvrtcc("12.1", "--version", cwd=tmp_path).stdout == "NVRTC 12.1\n"


def test_a_folder_without_nvrtc(source: Path) -> None:
    done = nvrtcc("12.1", f"--toolkit={source}", SM_80, "-o", "k.cubin", "k.cu", cwd=source)
    assert done.returncode == 1
    assert "expected one nvidia/*/lib/libnvrtc.so.*" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["k.cu"], "missing gpu-architecture"),
        ([SM_80, "-o", "x"], "missing source"),
        ([SM_80, "-MD", "-o", "x", "k.cu"], "-MD needs -MF"),
    ],
)
def test_an_incomplete_command(source: Path, arguments: list[str], words: str) -> None:
    done = nvrtcc("12.1", *arguments, cwd=source)
    assert done.returncode == 2
    assert words in done.stderr


def test_it_needs_nothing_but_python_3_8() -> None:
    """The build runs it by its name, with whatever python3 is on PATH."""
    text = NVRTCC.read_text(encoding="utf-8")
    tree = ast.parse(text, feature_version=(3, 8))
    imported = {
        name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    }
    assert imported == {"argparse", "ctypes", "os", "re", "sys"}
    assert NVRTCC.stat().st_mode & 0o111
    assert text.startswith("#!/usr/bin/env python3\n")


def test_device_code_includes_nothing_but_itself_and_cuda() -> None:
    """Design D1: so that NVRTC, which has no standard headers, can compile it."""
    csrc = ROOT / "csrc"
    own = (csrc / "kernels", csrc / "params")
    files = [path for folder in own for path in sorted(folder.rglob("*.*"))]
    assert any(path.suffix == ".cu" for path in files)
    for path in files:
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r'^\s*#\s*include\s+"([^"]+)"', text, re.MULTILINE):
            target = (csrc / name).resolve()
            assert target.is_file(), f"{path.name} includes {name}"
            assert any(folder in target.parents for folder in own), f"{path.name} includes {name}"
        for name in re.findall(r"^\s*#\s*include\s+<([^>]+)>", text, re.MULTILINE):
            assert re.match(r"(cuda|mma|cooperative_groups)", name), f"{path.name}: <{name}>"
