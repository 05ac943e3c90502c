"""``python -m ci reindex``: every page again, from the records."""

from __future__ import annotations

import argparse
from functools import partial

from ci.publish import cli
from ci.publish.reindex import reindex

HELP = "write every page anew from the records; pages that are right stay untouched"


def configure(parser: argparse.ArgumentParser) -> None:
    cli.add_bucket(parser)
    cli.add_json(parser)


def run(args: argparse.Namespace) -> int:
    result = reindex(cli.bucket(args), partial(cli.progress, args))
    lines = [
        f"{result.pages} pages, of {result.units} commits and releases and of all together; "
        f"{len(result.written)} were not as the records say",
        *(f"  written: {key}" for key in result.written),
    ]
    cli.show(args, result, "\n".join(lines))
    return 0
