"""The wheel of this commit that people install by default, among the wheels built here."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Optional

from ci import git, names, versions
from ci.errors import CiError
from ci.matrix import Matrix, Platform


def add_wheels(parser: argparse.ArgumentParser) -> None:
    """Adds `--wheels`, the folder for `find`."""
    parser.add_argument(
        "--wheels",
        type=Path,
        default=Path("wheelhouse"),
        metavar="FOLDER",
        help="folder of this commit's wheels (default: %(default)s)",
    )


def find(folder: Path, matrix: Matrix, platform: Optional[Platform] = None) -> Path:
    """The default variant's wheel, also of a tree with changes. Raises CiError if there is none.

    platform: the matrix's main one if None.
    """
    commit = git.read(Path.cwd(), allow_dirty=True)
    version = versions.public(matrix.version, matrix.default.local, dirty=commit.dirty)
    wheel = folder / names.abi3_wheel_name(matrix, version, platform)
    if not wheel.is_file():
        raise CiError(f"{wheel} is not there", do="build it: make nightly")
    return wheel
