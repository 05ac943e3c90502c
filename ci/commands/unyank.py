"""``python -m ci unyank``: undoes a yank."""

from __future__ import annotations

import argparse

from ci.publish import cli
from ci.publish.care import yank

HELP = "undo a yank"


def configure(parser: argparse.ArgumentParser) -> None:
    cli.add_bucket(parser)
    cli.add_json(parser)
    cli.add_index_key(parser)
    parser.add_argument("unit", metavar="COMMIT", help="40 hex digits, or a release: v0.5.4")


def run(args: argparse.Namespace) -> int:
    store = cli.bucket(args)
    with cli.signing(args, store):
        result = yank(store, args.unit, None)
    cli.show(
        args,
        result,
        f"{args.unit} is not yanked; the nightly is {result.nightly}, and promote can change it",
    )
    return 0
