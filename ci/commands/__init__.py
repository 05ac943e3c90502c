"""One module per subcommand of ``python -m ci``; each implements the protocol `Command`."""

from __future__ import annotations

import argparse
from typing import Protocol


class Command(Protocol):
    """What a module in this package has to define.

    HELP: one line for ``python -m ci --help``.
    configure: adds the command's own arguments.
    run: does the work and returns the exit status; raises `ci.errors.CiError` for a failure
    that a person can act on.
    """

    HELP: str

    @staticmethod
    def configure(parser: argparse.ArgumentParser) -> None: ...

    @staticmethod
    def run(args: argparse.Namespace) -> int: ...
