"""``python -m ci reindex``: rebuilds lists and pages from the complete commits and releases."""

from __future__ import annotations

import argparse
from functools import partial

from ci import matrix
from ci.publish import cli
from ci.publish.reindex import reindex

HELP = "list complete commits that no index lists, and rewrite pages that differ from the records"


def configure(parser: argparse.ArgumentParser) -> None:
    cli.add_bucket(parser)
    cli.add_json(parser)
    cli.add_index_key(parser)


def run(args: argparse.Namespace) -> int:
    store = cli.bucket(args)
    with cli.signing(args, store):
        result = reindex(store, matrix.load(), partial(cli.progress, args))
    lines = [
        f"{result.pages} pages of {result.units} commits and releases checked; "
        f"{len(result.written)} differed from the records",
        *(f"  listed:  {unit}" for unit in result.listed),
        *(f"  written: {key}" for key in result.written),
    ]
    cli.show(args, result, "\n".join(lines))
    return 0
