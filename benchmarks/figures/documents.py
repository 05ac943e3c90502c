"""Where figures stand, and how a document gets the present ones."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.figures import parts

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_PART = re.compile(
    r"(<!-- figures: (?P<name>[a-z_]+) -->\n)(?P<text>.*?)(<!-- end of figures -->\n)", re.DOTALL
)


def marked(text: str) -> dict[str, str]:
    """The parts of a document by name, with the text that they have now."""
    return {match["name"]: match["text"] for match in _PART.finditer(text)}


def refreshed(text: str) -> str:
    """The document with every marked part as the records have it.

    Raises KeyError for a part that no function makes.
    """
    return _PART.sub(lambda match: match[1] + parts.PARTS[match["name"]]() + match[4], text)
