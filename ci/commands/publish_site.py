"""``python -m ci publish-site``: publishes a commit's documentation beside its wheels."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from ci import git
from ci.publish import cli
from ci.publish.site import publish_site

HELP = "publish build/site as the documentation of the current commit"


def configure(parser: argparse.ArgumentParser) -> None:
    cli.add_bucket(parser)
    cli.add_json(parser)
    parser.add_argument(
        "--site",
        type=Path,
        default=Path("build") / "site",
        metavar="FOLDER",
        help="what `make site` has built (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    commit = git.read(Path.cwd())
    result = publish_site(cli.bucket(args), commit.sha, args.site, partial(cli.progress, args))
    text = f"{result.files} files at {result.address}, {result.created} of them new"
    cli.show(args, result, text)
    return 0
