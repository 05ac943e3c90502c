"""``python -m ci lock``: resolves what a commit's lock files name beside its wheel."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ci import matrix, pylock
from ci.pylock import LockError
from ci.scratch import write_atomically

HELP = "resolve the dependencies of each variant on each Python, for lock files"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--variant", action="append", default=[], help="only this variant; may be repeated"
    )
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="3.X",
        help="only this Python; may be repeated",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=pylock.FOLDER,
        help="folder for the lock files (default: requirements/locked)",
    )
    parser.add_argument(
        "--torch-index",
        metavar="URL",
        help="index for a torch that PyPI lacks (default: PyTorch's for the variant)",
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        help="an option for uv: --option=--find-links=X; may be repeated",
    )


def run(args: argparse.Namespace) -> int:
    known = matrix.load()
    for cuda in known.cudas:
        if args.variant and cuda.variant not in args.variant:
            continue
        wanted = pylock.requirements(Path("pyproject.toml"), cuda)
        options = [*args.option]
        if not cuda.default:
            index = args.torch_index or pylock.TORCH_INDEX + cuda.variant
            options += ["--extra-index-url", index, "--index-strategy", "first-index"]
        for python in args.python or known.trial_pythons:
            print(f"resolving {cuda.variant} for Python {python}", file=sys.stderr, flush=True)
            try:
                locked = pylock.resolve(wanted, python, options)
            except LockError as error:
                raise LockError(f"{cuda.variant}: {error.what}") from error
            path = args.out / pylock.lock_name(cuda.variant, python)
            write_atomically(path, pylock.dump(locked))
            print(f"{path}: {len(locked['packages'])} packages")
    return 0
