"""``python -m ci matrix``: what a release is built for."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Optional

from rich.console import Console
from rich.table import Table

from ci import matrix, names, versions
from ci.matrix import Cuda, Matrix

HELP = "print the build matrix: CUDA versions, arches, Pythons, wheels"


def configure(parser: argparse.ArgumentParser) -> None:
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="everything, for programs")
    form.add_argument(
        "--github", action="store_true", help="a dynamic matrix for GitHub Actions' fromJSON"
    )


def run(args: argparse.Namespace) -> int:
    known = matrix.load()
    if args.json:
        print(json.dumps(as_json(known), indent=1, sort_keys=True))
    elif args.github:
        print(json.dumps(as_github(known), sort_keys=True))
    else:
        Console().print(as_table(known))
    return 0


def release_wheels(known: Matrix, local: Optional[str]) -> list[str]:
    """The file names of a release's wheels of one variant: for every Python, and one for each."""
    version = versions.public(known.version, local)
    tags = [(names.python_tag(python),) * 2 for python in known.pythons]
    return [
        names.abi3_wheel_name(known, version),
        *(names.wheel_name(version, python, abi, known.platform_tag) for python, abi in tags),
    ]


def as_json(known: Matrix) -> dict[str, Any]:
    """The whole matrix, with the names that follow from it."""
    described = asdict(known)
    for cuda, entry in zip(known.cudas, described["cudas"]):
        entry.update(
            variant=cuda.variant, local=cuda.local, wheels=release_wheels(known, cuda.local)
        )
    return described


def as_github(known: Matrix) -> dict[str, list[dict[str, str]]]:
    """One job for each variant; the Pythons of a variant cost no job, for they are packed."""
    return {"include": [{"variant": cuda.variant, "cuda": cuda.version} for cuda in known.cudas]}


def as_table(known: Matrix) -> Table:
    """For a terminal: a column for each variant."""
    pythons = ", ".join(map(names.python_tag, known.pythons))
    table = Table("", *(f"CUDA {cuda.version}" for cuda in known.cudas))
    rows: dict[str, Callable[[Cuda], str]] = {
        "variant": lambda cuda: f"{cuda.variant}{' (default)' if cuda.default else ''}",
        "version": lambda cuda: versions.public(known.version, cuda.local),
        "torch": lambda cuda: cuda.torch,
        "cubins": lambda cuda: " ".join(cuda.archs),
        "PTX": lambda cuda: " ".join(cuda.ptx),
        "wheels": lambda cuda: f"abi3, {pythons}",
        "budget of each": lambda cuda: f"{cuda.wheel_budget // 2**20} MiB",
    }
    for name, cell in rows.items():
        table.add_row(name, *map(cell, known.cudas))
    return table
