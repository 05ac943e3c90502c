"""``python -m ci matrix``: prints what wheels are built for."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table

from ci import matrix, names, versions
from ci.matrix import Cuda, Matrix
from ci.publish import cli

HELP = "print the build matrix: CUDA versions, arches, Pythons, wheels"


def configure(parser: argparse.ArgumentParser) -> None:
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="everything, for programs")
    form.add_argument(
        "--github",
        metavar="WHAT",
        choices=("commit", "release"),
        help="the jobs of a commit or a release, for GitHub Actions' fromJSON",
    )
    cli.add_also(parser)


def run(args: argparse.Namespace) -> int:
    known = matrix.load()
    if args.json:
        print(json.dumps(as_json(known), indent=1, sort_keys=True))
    elif args.github:
        chosen = known if args.github == "release" else known.of_commit(args.also)
        print(json.dumps(as_github(chosen), sort_keys=True))
    else:
        Console().print(as_table(known))
    return 0


def release_wheels(known: Matrix, cuda: Cuda) -> list[str]:
    """The file names of a release's wheels of one variant: for every Python, and one for each."""
    version = versions.public(known.version, cuda.local)
    return [
        names.wheel_name(version, *tag.split("-"))
        for platform in known.platforms_of(cuda)
        for tag in names.release_tags(known, platform)
    ]


def as_json(known: Matrix) -> dict[str, Any]:
    """The whole matrix, with the names that follow from it."""
    described = asdict(known)
    for cuda, entry in zip(known.cudas, described["cudas"]):
        entry.update(variant=cuda.variant, local=cuda.local, wheels=release_wheels(known, cuda))
    return described


def as_github(known: Matrix) -> dict[str, list[dict[str, str]]]:
    """One job for each variant; wheels for single Pythons are packed, and need no job."""
    return {"include": [{"variant": cuda.variant, "cuda": cuda.version} for cuda in known.cudas]}


def as_table(known: Matrix) -> Table:
    """For a terminal: a column for each variant."""
    pythons = ", ".join(map(names.python_tag, known.pythons))
    table = Table("")
    for cuda in known.cudas:
        table.add_column(f"CUDA {cuda.version}", overflow="fold")  # a version must not be cut
    used = {toolkit.version for cuda in known.cudas for toolkit in cuda.toolkits}
    versions_of_compilers = sorted(used, key=matrix.numbers)
    rows: dict[str, Callable[[Cuda], str]] = {
        "variant": lambda cuda: f"{cuda.variant}{' (default)' if cuda.default else ''}",
        "of": lambda cuda: "releases, commits on request" if cuda.on_request else "each commit",
        "version": lambda cuda: versions.public(known.version, cuda.local),
        "torch": lambda cuda: cuda.torch.replace(",", ", "),  # a line may end there
        **{f"code by {version}": partial(_code, version) for version in versions_of_compilers},
        "wheels": lambda cuda: "\n".join(
            f"{platform.processor}: abi3{f', {pythons}' if platform.per_python else ''}, "
            f"at most {cuda.budgets[platform.processor] // 2**20} MiB"
            for platform in known.platforms_of(cuda)
        ),
    }
    for name, cell in rows.items():
        table.add_row(name, *map(cell, known.cudas))
    return table


def _code(version: str, cuda: Cuda) -> str:
    """``7.0 7.5, PTX 9.0``: what the compiler of that version makes for the variant."""
    lines = []
    for code in cuda.code:
        if code.toolkit.version == version:
            ptx = [f"PTX {arch}" for arch in code.ptx]
            only = "" if len(code.processors) == len(cuda.budgets) else code.processors[0]
            lines.append(" ".join([*code.archs, *ptx, *([f"({only})"] if only else [])]))
    return "\n".join(lines)
