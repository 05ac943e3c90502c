"""Diagrams as lists: a graph would need a script from elsewhere to be drawn."""

from __future__ import annotations

import re

_GRAPH = re.compile(r"^```mermaid\ngraph TD\n(?P<edges>.*?)^```\n", re.DOTALL | re.MULTILINE)


def as_lists(text: str) -> str:
    """Each graph of arrows as a table: from where, and to what."""
    return _GRAPH.sub(lambda match: _table(match["edges"]), text)


def _table(edges: str) -> str:
    targets: dict[str, list[str]] = {}
    for source, target in re.findall(r"(\S+) --> (\S+)", edges):
        targets.setdefault(source, []).append(f"`{target}`")
    rows = [f"| `{source}` | {', '.join(found)} |\n" for source, found in targets.items()]
    return "| module | imports |\n| --- | --- |\n" + "".join(rows)
