"""``python -m ci yank``: marks a commit or a release as one that resolvers avoid (PEP 592)."""

from __future__ import annotations

import argparse

from ci.index.fields import LINE
from ci.publish import cli
from ci.publish.care import yank
from ci.publish.errors import PublishError

HELP = "make resolvers avoid a commit or a release; its files stay (PEP 592)"


def configure(parser: argparse.ArgumentParser) -> None:
    cli.add_bucket(parser)
    cli.add_json(parser)
    cli.add_index_key(parser)
    parser.add_argument("unit", metavar="COMMIT", help="40 hex digits, or a release: v0.5.4")
    parser.add_argument("--reason", required=True, help="what is wrong with it, in one line")


def run(args: argparse.Namespace) -> int:
    if not LINE.fullmatch(args.reason):
        raise PublishError(
            "the reason is not one line of at most 500 characters",
            means="installers show it in a warning, and pages in a table",
            do="shorten it, or put the details in an issue and name that",
        )
    store = cli.bucket(args)
    with cli.signing(args, store):
        result = yank(store, args.unit, args.reason)
    cli.show(
        args,
        result,
        f"{args.unit} is yanked: {args.reason}\n"
        f"the nightly is {result.nightly}; {len(result.pages)} pages changed",
    )
    return 0
