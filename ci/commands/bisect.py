"""``python -m ci bisect``: finds the commit that broke something, with published wheels."""

from __future__ import annotations

import argparse

from ci.errors import CiError
from ci.scripts import bisect

HELP = "find the first bad commit by installing published wheels"


def configure(parser: argparse.ArgumentParser) -> None:
    bisect.configure(parser)


def run(args: argparse.Namespace) -> int:
    try:
        return bisect.run(args)
    except bisect.BisectError as error:
        raise CiError(str(error)) from error
