"""``python -m ci audit``: is a wheel what its name says?"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from ci import matrix
from ci.audit import audit_all

HELP = "audit wheels: tags, contents, arches, metadata, size"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("wheel", type=Path, nargs="+", help="wheels to audit")


def run(args: argparse.Namespace) -> int:
    console = Console()
    for report in audit_all(args.wheel, matrix.load(), Path.cwd(), _progress):
        console.print(report.table())
    return 0


def _progress(wheel: Path) -> None:
    print(f"auditing {wheel.name}", file=sys.stderr, flush=True)
