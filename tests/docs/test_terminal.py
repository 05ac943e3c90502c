"""docs/terminal.md shows what the commands print, and README some of it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"

needs_torch = pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="there is no torch")


@needs_torch
def test_the_page_shows_what_commands_print(smollm2):
    from tests import record_terminal  # it imports torch

    found = record_terminal.unchanging(record_terminal.page(smollm2))
    shown = record_terminal.DOCUMENT.read_text(encoding="utf-8")
    assert record_terminal.unchanging(shown) == found, "run python -m tests.record_terminal"


def test_readme_shows_what_the_page_does():
    page = (README.parent / "docs/terminal.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n.*?\n```\n", README.read_text(encoding="utf-8"), re.S)
    shown = [block for block in blocks if "SmolLM2" in block]
    assert shown
    for block in shown:
        assert block in page
