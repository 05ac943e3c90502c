"""``python -m ci nightly``: the main job, from the current commit to working installs."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from ci import matrix, nightly
from ci.publish import cli
from ci.trial import Status

HELP = "build, audit, publish, serve and install the current commit"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bucket",
        default="wheelhouse/bucket",
        help="a folder, or s3://name; AWS_ENDPOINT_URL is honoured (default: %(default)s)",
    )
    cli.add_also(parser)
    parser.add_argument(
        "--allow-dirty",
        action="store_true",
        help="build a tree with uncommitted changes; such wheels are never published",
    )


def run(args: argparse.Namespace) -> int:
    outcomes = nightly.run(
        Path.cwd(),
        matrix.load().of_commit(args.also),
        args.bucket,
        allow_dirty=args.allow_dirty,
        console=Console(),
    )
    failed = [outcome for outcome in outcomes if outcome.status is Status.FAILED]
    return 1 if failed else 0
