"""``python -m ci pin``: protects a commit from `prune`."""

from __future__ import annotations

import argparse

from ci.publish import cli
from ci.publish.care import pin

HELP = "protect a commit from prune; --off ends that"


def configure(parser: argparse.ArgumentParser) -> None:
    cli.add_bucket(parser)
    cli.add_json(parser)
    parser.add_argument("commit", metavar="COMMIT", help="40 hex digits")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--reason", help="why it must stay")
    what.add_argument("--off", action="store_true", help="end the protection")


def run(args: argparse.Namespace) -> int:
    result = pin(cli.bucket(args), args.commit, args.reason)
    state = "no longer pinned" if args.off else f"pinned: {args.reason}"
    cli.show(args, result, f"{args.commit} is {state}")
    return 0
