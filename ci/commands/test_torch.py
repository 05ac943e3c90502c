"""``python -m ci test-torch``: tests one wheel with several versions of torch."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ci import built_wheel, git, matrix, names, versions
from ci.errors import CiError
from ci.trial import torches
from ci.wheel.reader import read

HELP = "run the op tests with several versions of torch (gigabytes of downloads)"


def configure(parser: argparse.ArgumentParser) -> None:
    built_wheel.add_wheels(parser)
    parser.add_argument(
        "--torch",
        action="append",
        default=[],
        metavar="VERSION",
        help="only this version of the matrix; may be repeated",
    )


def run(args: argparse.Namespace) -> int:
    console = Console(soft_wrap=True)
    known = matrix.load()
    version = versions.public(known.version, known.default.local)
    path = args.wheels / names.abi3_wheel_name(known, version)
    commit = git.read(Path.cwd())
    if not path.is_file() or read(path).build.commit != commit.sha:
        raise CiError(f"{path} is not there, or of another commit", do="python -m ci build")
    console.print(f"{path.name}, commit {commit.sha}, sha256 {read(path).sha256}", highlight=False)
    unknown = set(args.torch) - {trial.version for trial in known.torch_trials}
    if unknown:
        listed = ", ".join(trial.version for trial in known.torch_trials)
        raise CiError(
            f"no torch {', '.join(sorted(unknown))} in ci/matrix.toml", do=f"use {listed}"
        )
    table = Table("Python", "torch", "result")
    failed = False
    for trial in known.torch_trials:
        if args.torch and trial.version not in args.torch:
            continue
        outcome = torches.run(trial, path.resolve(), Path.cwd())
        if not outcome.passed:
            failed = True
            console.print(outcome.output, markup=False, highlight=False)
        table.add_row(trial.python, outcome.identity or trial.version, outcome.result)
        console.print(f"{trial.python}, {outcome.identity}: {outcome.result}", highlight=False)
    console.print(table)
    return 1 if failed else 0
