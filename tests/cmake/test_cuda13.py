"""CUDA 13, whose wheels have other folders than those before: an entry in the matrix is enough."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from rich.console import Console

from ci import matrix
from ci.audit.device_code import cubin_arch
from ci.builder import toolkit
from ci.lock import locked
from tests.ci.support.toolchain import ROOT
from tests.cmake.conftest import MakeTree, build, compiled

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler here")
ENTRY = Path(__file__).with_name("cuda13.toml")


def test_an_entry_of_the_matrix_compiles_by_nvidias_wheels(make_tree: MakeTree) -> None:
    tree = make_tree()
    path = tree / "ci" / "matrix.toml"
    shipped, _, _ = path.read_text().partition('[[cuda]]\nversion = "13.0"')
    path.write_text(f"{shipped}\n{ENTRY.read_text()}")
    known = matrix.load(path).toolkits["13.0"]
    console = Console(quiet=True)
    with locked(ROOT / "build" / ".lock", console.print):
        toolkits = toolkit.fetch([known], ROOT / "build" / "toolkit", console)
    # As a Python that has them installed, which is how a frontend leaves them for the backend.
    environ = {"PYTHONPATH": str(toolkits["13.0"]), "VLLM_CUDA_VERSION": "13.0", "CUDA_HOME": ""}
    said = build(tree, {**environ, "CCACHE_DISABLE": "1"})
    assert "NVRTC 13.0 of NVIDIA's wheels" in said
    assert len(compiled(said)) == 7
    for arch in ("sm_80", "sm_90"):
        cubin = tree / "build/development/kernels/cu130" / arch / "scaled.cubin"
        assert cubin_arch(cubin.read_bytes()) == arch
