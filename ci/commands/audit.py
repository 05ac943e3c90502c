"""``python -m ci audit``: is a wheel what its name says?"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from ci import matrix
from ci.audit import audit

HELP = "audit wheels: tags, contents, arches, metadata, size"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("wheel", type=Path, nargs="+")


def run(args: argparse.Namespace) -> int:
    console = Console()
    for path in args.wheel:
        console.print(audit(path, matrix.load(), Path.cwd()).table())
    return 0
