"""``python -m ci size A B``: where the bytes of two wheels differ."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

from rich.console import Console
from rich.table import Table

from ci.wheel import compare, reader
from ci.wheel.compare import SizeChange

HELP = "compare the sizes of two wheels, by arch and by member"
SHOWN = 20


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", type=Path, help="a wheel")
    parser.add_argument("after", type=Path, help="the wheel to compare with it")
    parser.add_argument("--all", action="store_true", help=f"every member, not the first {SHOWN}")


def run(args: argparse.Namespace) -> int:
    before, after = reader.read(args.before), reader.read(args.after)
    changes = compare.sizes(args.before, args.after)
    changed = [change for change in changes if change.delta]
    shown = changed if args.all else changed[:SHOWN]
    console = Console()
    whole = SizeChange("the wheel", before.size, after.size)
    console.print(_table("", [whole]))
    console.print(_table("arch", compare.by_arch(changes).values()))
    console.print(_table("member", shown))
    rest = len(changed) - len(shown)
    console.print(
        f"{len(changes) - len(changed)} members of the same size"
        + (f", {rest} more that changed (--all shows them)" if rest else "")
    )
    return 0


def _table(title: str, changes: Iterable[SizeChange]) -> Table:
    table = Table(title, "before", "after", "change", "%")
    for column in table.columns[1:]:
        column.justify = "right"
    for change in changes:
        share = f"{change.delta / change.before:+.1%}" if change.before else "new"
        table.add_row(
            change.name, _bytes(change.before), _bytes(change.after), f"{change.delta:+,}", share
        )
    return table


def _bytes(size: Optional[int]) -> str:
    return "–" if size is None else f"{size:,}"
