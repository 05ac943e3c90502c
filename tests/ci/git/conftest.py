"""A real repository made for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ci.support.repository import run


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    path = tmp_path / "repo"
    path.mkdir()
    run(path, "init", "-q", "-b", "main")
    return path
