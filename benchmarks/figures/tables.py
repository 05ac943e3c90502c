"""Markdown tables, and the records that they are made from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1]


def load(name: str) -> Any:
    """The record ``benchmarks/NAME.json``."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table, with a line end after each row."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def link(name: str, *, up: str = "../", commit: str = "") -> str:
    """A link to a record and its commit, from a document `up` away from the root.

    commit: of a record of several commits, the one of the linked figures.
    """
    commit = commit or load(name).get("commit", "")
    at = f" at {commit[:7]}" if commit else ""
    return f"[{name}.json]({up}benchmarks/{name}.json){at}"


def significant(value: float) -> str:
    """A time in µs with three or four digits, as the tables show it."""
    return f"{value:.1f}" if value < 1000 else f"{value:.0f}"
