"""Real builds of this repository's own HEAD, in clones of it, with fewer arches than a release."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from ci import matrix
from ci.matrix import Matrix
from tests.ci.support.clones import clone, commit, run
from tests.ci.support.toolchain import ROOT


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HEAD with one arch for each CUDA, on one platform: all show nothing more and take minutes."""
    repo = clone(ROOT, tmp_path_factory.mktemp("origin") / "repo")
    path = repo / "ci" / "matrix.toml"
    one = re.sub(r'archs = \[[^]]*"9.0"[^]]*\]', 'archs = ["9.0"]', path.read_text())
    one = re.sub(r", aarch64 = \d+", "", one)
    path.write_text(re.sub(r"(?m)^  \{ compiler(?!.*\"9\.0\").*\n", "", one))
    commit(repo)
    return repo


@pytest.fixture(scope="session")
def built(origin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with its wheels built."""
    repo = clone(origin, tmp_path_factory.mktemp("built") / "repo")
    run(repo, PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin")
    return repo


@pytest.fixture(scope="session")
def other(origin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another clone, built by somebody who has everything set up differently."""
    repo = clone(origin, tmp_path_factory.mktemp("other") / "some" / "deeper folder" / "clone")
    foreign = {"TZ": "Asia/Tokyo", "CXXFLAGS": "-O0 -march=native", "CMAKE_ARGS": "-DX=1"}
    run(repo, mask=0o077, MAX_JOBS="1", LC_ALL="C.UTF-8", **foreign)
    return repo


@pytest.fixture(scope="session")
def small(built: Path) -> Matrix:
    """The matrix of the clones."""
    return matrix.load(built / "ci" / "matrix.toml")
