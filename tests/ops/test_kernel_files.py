"""Launchers name device code by file; the names are looked up on a GPU only."""

from __future__ import annotations

import re
from pathlib import Path

CSRC = Path(__file__).parents[2] / "csrc"


def test_launchers_name_files_that_exist():
    launchers = "".join(path.read_text() for path in (CSRC / "ops").rglob("*.cpp"))
    files = {path.stem for path in (CSRC / "kernels").rglob("*.cu")}
    named = set(re.findall(r'(?:{|Kernel \w+\()[\s\\]*"(\w+)",\s*"', launchers))
    assert named == files
