"""Entry point of ``python -m ci``: finds the commands, runs one, prints errors for people."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
from pathlib import Path
from typing import Mapping, Optional, Sequence, cast

from rich.console import Console

import ci.commands
from ci import environment
from ci.commands import Command
from ci.errors import CiError, of_system

# What a shell reports for a program ended by SIGINT.
INTERRUPTED = 130


def find_commands() -> dict[str, Command]:
    """Every module of `ci.commands`, by the name a person types (`_` becomes `-`)."""
    names = sorted(module.name for module in pkgutil.iter_modules(ci.commands.__path__))
    return {
        name.replace("_", "-"): cast(Command, importlib.import_module(f"ci.commands.{name}"))
        for name in names
    }


def make_parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """The parser of the whole command line; `command` in its result names one of `commands`."""
    parser = argparse.ArgumentParser(prog="python -m ci", description=ci.__doc__)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in commands.items():
        command.configure(subparsers.add_parser(name, help=command.HELP, description=command.HELP))
    return parser


def main(argv: Optional[Sequence[str]] = None) -> int:
    # Child processes run in other working directories.
    os.environ.update(environment.with_absolute_paths(os.environ, Path.cwd()))
    commands = find_commands()
    args = make_parser(commands).parse_args(argv)
    try:
        return commands[args.command].run(args)
    except (CiError, OSError) as error:
        complaint = of_system(error) if isinstance(error, OSError) else error
        Console(stderr=True, soft_wrap=True).print(
            f"error: {complaint}", style="red", markup=False, highlight=False
        )
        return 1
    except KeyboardInterrupt:
        print("interrupted: run the same command again to continue", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
