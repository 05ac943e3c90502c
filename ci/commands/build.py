"""``python -m ci build``: the wheels of the commit that is checked out."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from ci import builder, git, matrix
from ci.builder import Label
from ci.builder.reused import reuse_of, write_reused
from ci.errors import CiError
from ci.matrix import Cuda, Platform
from ci.store import open_store

HELP = "build the wheels of this commit into wheelhouse/"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        help="only this variant, such as cu118; may be repeated (default: those of each commit)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("wheelhouse"), help="folder for the wheels"
    )
    parser.add_argument(
        "--allow-dirty",
        action="store_true",
        help="include uncommitted changes, under a version that says `dirty`",
    )
    parser.add_argument(
        "--label",
        action="append",
        default=[],
        type=_label,
        metavar="VERSION=TAG",
        help="pack wheels of these versions and tags instead of a commit's own",
    )
    parser.add_argument(
        "--reuse",
        metavar="BUCKET",
        help="a folder or s3://name: reuse published native files if their inputs are unchanged",
    )


def _label(text: str) -> Label:
    version, _, tag = text.partition("=")
    if tag.count("-") != 2:
        raise argparse.ArgumentTypeError("use VERSION=PYTHON-ABI-PLATFORM")
    return Label(version, tag)


def _labels(args: argparse.Namespace) -> Callable[[Cuda, Platform], list[Label]]:
    """The labels of --label, each for the platform of its tag."""
    tags = [platform.tag for platform in matrix.load().platforms]
    for label in args.label:
        if label.tag.split("-")[2] not in tags:
            raise CiError(
                f"no platform has the tag {label.tag}", do=f"use a tag of {', '.join(tags)}"
            )
    return lambda cuda, platform: [
        label for label in args.label if label.tag.split("-")[2] == platform.tag
    ]


def run(args: argparse.Namespace) -> int:
    console = Console()
    repo = Path.cwd()
    commit = git.read(repo, allow_dirty=args.allow_dirty)
    reuse = reuse_of(open_store(args.reuse)) if args.reuse else None
    paths = builder.build(
        repo,
        args.out,
        commit=commit,
        variants=args.variant,
        labels=_labels(args) if args.label else None,
        reuse=reuse,
        console=console,
    )
    write_reused(args.out, commit, reuse.used if reuse else {})
    for path in paths:
        size = f"{path.stat().st_size / 1e6:.2f} MB"
        console.print(f"{path}  {size}", highlight=False, soft_wrap=True)
    return 0
