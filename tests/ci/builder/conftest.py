"""Real builds of this repository's own HEAD, in clones of it, with fewer arches and kernels than a
release: `make nightly` and `make cibuildwheel` build them all."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from ci import matrix
from ci.matrix import Matrix
from tests.ci.support.clones import clone, commit, hashes, remove_slow_kernels, run
from tests.ci.support.toolchain import ROOT


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HEAD with one arch for each CUDA, on one platform, and without the kernels that compile
    slowly: all would take minutes and test no more.

    Of the variants on request it has one, CUDA 13.0, of the arch that takes the least time.
    """
    repo = clone(ROOT, tmp_path_factory.mktemp("origin") / "repo")
    path = repo / "ci" / "matrix.toml"
    rest, *entries = re.split(r"(?m)^(?=\[\[cuda\]\])", path.read_text())
    (last,) = (entry for entry in entries if 'version = "13.0"' in entry)
    one = 'archs = ["9.0"], ptx = ["9.0"]'
    kept = [_reduced(entry, one) for entry in entries if "on_request" not in entry]
    path.write_text("".join([rest, *kept, _reduced(last, 'archs = ["7.5"]')]))
    remove_slow_kernels(repo)
    commit(repo)
    return repo


def _reduced(entry: str, code: str) -> str:
    """An entry of ci/matrix.toml for x86-64, with `code` in place of its archs and PTX."""
    entry = re.sub(r", aarch64 = \d+", "", entry)
    lines = entry.splitlines(keepends=True)
    one = [line for line in lines if not line.startswith("  { compiler") or "ptx" in line]
    return re.sub(r"archs = \[[^]]*\], ptx = \[[^]]*\]", code, "".join(one))


@pytest.fixture(scope="session")
def built(origin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with its wheels built."""
    repo = clone(origin, tmp_path_factory.mktemp("built") / "repo")
    run(repo, PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin")
    return repo


@pytest.fixture(scope="session")
def other(origin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another clone, built with a different setup."""
    repo = clone(origin, tmp_path_factory.mktemp("other") / "some" / "deeper folder" / "clone")
    foreign = {"TZ": "Asia/Tokyo", "CXXFLAGS": "-O0 -march=native", "CMAKE_ARGS": "-DX=1"}
    nvcc = tmp_path_factory.mktemp("tools") / "nvcc"  # one that does not even say its version
    nvcc.write_text("#!/bin/sh\nexit 1\n")
    nvcc.chmod(0o755)
    foreign["PATH"] = f"{nvcc.parent}:{Path(sys.executable).parent}:/usr/bin:/bin"
    run(repo, mask=0o077, MAX_JOBS="1", LC_ALL="C.UTF-8", **foreign)
    return repo


@pytest.fixture(scope="session")
def whole(built: Path) -> Matrix:
    """All of the clones' matrix."""
    return matrix.load(built / "ci" / "matrix.toml")


@pytest.fixture(scope="session")
def small(whole: Matrix) -> Matrix:
    """The matrix of the clones: of the variants that each commit has."""
    return whole.of_commit()


@pytest.fixture(scope="session")
def asked(built: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The wheels of `built` with those of CUDA 13.0, which `built` compiles without an nvcc."""
    folder = tmp_path_factory.mktemp("asked")
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    assert shutil.which("nvcc", path=path) is None
    before = hashes(built)
    run(built, "--variant", "cu130", "--out", str(folder), PATH=path)
    assert hashes(built) == before
    return sorted([*folder.glob("*.whl"), *(built / "wheelhouse").glob("*.whl")])
