"""``python -m ci reindex``: every list and page again, from what is complete."""

from __future__ import annotations

import argparse
from functools import partial

from ci import matrix
from ci.publish import cli
from ci.publish.reindex import reindex

HELP = "list what is complete and left out, and write the pages that are not as the records say"


def configure(parser: argparse.ArgumentParser) -> None:
    cli.add_bucket(parser)
    cli.add_json(parser)
    cli.add_index_key(parser)


def run(args: argparse.Namespace) -> int:
    store = cli.bucket(args)
    with cli.signing(args, store):
        result = reindex(store, matrix.load(), partial(cli.progress, args))
    lines = [
        f"{result.pages} pages, of {result.units} commits and releases and of all together; "
        f"{len(result.written)} were not as the records say",
        *(f"  listed:  {unit}" for unit in result.listed),
        *(f"  written: {key}" for key in result.written),
    ]
    cli.show(args, result, "\n".join(lines))
    return 0
