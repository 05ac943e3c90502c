"""Docstrings in this project's style as reStructuredText: lines "name: text" are a list."""

from __future__ import annotations

import re
from typing import Any, List

_ENTRY = re.compile(r"^(?P<names>\w+(?:, \w+)*): (?P<text>.*)$")


def as_lists(app: Any, what: str, name: str, obj: Any, options: Any, lines: List[str]) -> None:
    """Rewrites the lines in place, as autodoc wants it."""
    made: List[str] = []
    in_list = False
    for line in lines:
        entry = _ENTRY.match(line)
        if entry:
            if not in_list and made and made[-1]:
                made.append("")
            names = ", ".join(f"``{each}``" for each in entry["names"].split(", "))
            made.append(f"* {names}: {entry['text']}")
            in_list = True
            continue
        if in_list and line.startswith("    "):
            made.append("  " + line.strip())
            continue
        if in_list and line:
            made.append("")
        in_list = False
        made.append(line)
    lines[:] = [re.sub(r"(?<![\\*`])\*\*?(?=\w+\b(?!\*))", r"\\\g<0>", each) for each in made]
