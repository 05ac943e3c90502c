"""``python -m ci pypi``: prepares the files of a release for PyPI; uploads nothing."""

from __future__ import annotations

import argparse
from pathlib import Path

from ci import matrix, release
from ci.release import pypi

HELP = "prepare the files of a release for PyPI: wheels first, the sdist last"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of a whole release")
    parser.add_argument("--version", help="0.5.4; by default the one of this commit's tag")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("wheelhouse/pypi"),
        metavar="FOLDER",
        help="folder for the files to upload (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    version = args.version or release.version_of_tag(Path.cwd())
    pypi.check_version(version)
    upload = pypi.select(args.folder, release.matrix_of(matrix.load(), version))
    pypi.arrange(upload, args.out)
    for path in (*upload.wheels, upload.sdist):
        print(path.name)
    return 0
