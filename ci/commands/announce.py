"""``python -m ci announce``: tells the bucket's readers what becomes of this commit's wheels."""

from __future__ import annotations

import argparse
from pathlib import Path

from ci import git
from ci.publish import begin, cli, fail

HELP = "say in the bucket that this commit is being built, or why it has no wheels"


def configure(parser: argparse.ArgumentParser) -> None:
    cli.add_bucket(parser)
    parser.add_argument("--failed", metavar="WHY", help="it has none, for this reason")


def run(args: argparse.Namespace) -> int:
    commit, store = git.read(Path.cwd()), cli.bucket(args)
    if args.failed:
        fail(store, commit, args.failed)
    else:
        begin(store, commit)
    print(f"{commit.sha}: {f'failed: {args.failed}' if args.failed else 'pending'}")
    return 0
