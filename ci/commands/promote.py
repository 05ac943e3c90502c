"""``python -m ci promote``: makes a published commit the nightly; also for a rollback."""

from __future__ import annotations

import argparse

from ci.publish import cli
from ci.publish.care import promote

HELP = "make a published commit the nightly, until a newer one is published"


def configure(parser: argparse.ArgumentParser) -> None:
    cli.add_bucket(parser)
    cli.add_json(parser)
    cli.add_index_key(parser)
    parser.add_argument("commit", metavar="COMMIT", help="40 hex digits")


def run(args: argparse.Namespace) -> int:
    store = cli.bucket(args)
    with cli.signing(args, store):
        result = promote(store, args.commit)
    text = f"the nightly is {result.nightly}; {len(result.pages)} pages and wheels changed"
    cli.show(args, result, text)
    return 0
