"""``python -m ci install-built``: installs the wheel that was just built in this environment."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from ci import environment, git, matrix, names, versions
from ci.errors import CiError

HELP = "install this commit's wheel of the default CUDA, for the tests to run against"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wheels",
        type=Path,
        default=Path("wheelhouse"),
        metavar="FOLDER",
        help="folder of this commit's wheels (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    the_matrix = matrix.load()
    commit = git.read(Path.cwd(), allow_dirty=True)
    version = versions.public(the_matrix.version, the_matrix.default.local, dirty=commit.dirty)
    wheel = args.wheels / names.abi3_wheel_name(the_matrix, version)
    if not wheel.is_file():
        raise CiError(f"{wheel} is not there", do="build it: make nightly")
    # The version is the same for every commit, so pip would keep an installed wheel.
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--force-reinstall"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, wheel],
        env=environment.for_installing(),
        check=True,
    )
    return 0
