"""The in-tree backend is on no path but its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ci import matrix
from ci.matrix import Matrix

sys.path.insert(0, str(Path(__file__).parents[2] / "backend"))


@pytest.fixture(scope="session")
def the_matrix() -> Matrix:
    return matrix.load()
