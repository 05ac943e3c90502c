"""The README's two commands, as far as a dry run shows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[1] / "Makefile"

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make here")


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What would be done, without doing it."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    command = ["make", "-n", "-f", str(MAKEFILE), "nightly", *arguments]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)


def test_an_environment_of_another_python_is_not_gone_on_with(tmp_path: Path) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho Python 3.9.1\n")
    python.chmod(0o755)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "ci.txt").touch()
    refused = make(tmp_path, f"PYTHON={sys.executable}")
    assert refused.returncode != 0
    assert f".venv was made by Python 3.9.1, not by {sys.executable}" in refused.stderr
    assert make(tmp_path, f"PYTHON={python}").returncode == 0
    assert make(tmp_path).returncode == 0
