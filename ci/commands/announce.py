"""``python -m ci announce``: records that this commit is being built, or that it failed."""

from __future__ import annotations

import argparse
from pathlib import Path

from ci import git
from ci.publish import begin, cli, fail

HELP = "record in the bucket that this commit is being built, or why it failed"


def configure(parser: argparse.ArgumentParser) -> None:
    cli.add_bucket(parser)
    parser.add_argument("--failed", metavar="WHY", help="it has no wheels, for this reason")


def run(args: argparse.Namespace) -> int:
    commit, store = git.read(Path.cwd()), cli.bucket(args)
    if args.failed:
        fail(store, commit, args.failed)
    else:
        begin(store, commit)
    print(f"{commit.sha}: {f'failed: {args.failed}' if args.failed else 'pending'}")
    return 0
