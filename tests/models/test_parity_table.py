"""The table in the documentation has every comparison that the tests make, and no other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_documented_table_is_that_of_the_tests():
    command = [sys.executable, "-m", "tests.models.parity_table", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (
        "docs/engine.md is not up to date: python -m tests.models.parity_table\n" + done.stdout
    )
