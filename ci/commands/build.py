"""``python -m ci build``: the wheels of the commit that is checked out."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from ci import build, git

HELP = "build the wheels of this commit into wheelhouse/"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--variant", action="append", default=[], help="cu121, cu118: one of them, not all"
    )
    parser.add_argument("--out", type=Path, default=Path("wheelhouse"), help="where wheels land")
    parser.add_argument(
        "--allow-dirty",
        action="store_true",
        help="build what is not committed too, under a version that says `dirty`",
    )


def run(args: argparse.Namespace) -> int:
    console = Console()
    repo = Path.cwd()
    commit = git.read(repo, allow_dirty=args.allow_dirty)
    paths = build.build(repo, args.out, commit=commit, variants=args.variant, console=console)
    for path in paths:
        console.print(f"{path}  {path.stat().st_size / 1e6:.2f} MB", highlight=False)
    return 0
