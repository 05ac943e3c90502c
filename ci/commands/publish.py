"""``python -m ci publish``: puts the wheels of a commit, or of a release, into a bucket."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from ci import git, matrix
from ci.builder.reused import read_reused
from ci.publish import cli, fail, plan, publish
from ci.publish.collect import collect
from ci.publish.errors import PublishError
from ci.wheel.reader import read

HELP = "publish the wheels of the current commit, completely or not at all"


def configure(parser: argparse.ArgumentParser) -> None:
    cli.add_bucket(parser)
    cli.add_json(parser)
    cli.add_index_key(parser)
    cli.add_also(parser)
    parser.add_argument(
        "--wheels",
        type=Path,
        default=Path("wheelhouse"),
        metavar="FOLDER",
        help="folder of the wheels; other files there are ignored (default: %(default)s)",
    )
    parser.add_argument(
        "--cells",
        type=Path,
        metavar="FOLDER",
        help="first collect the complete set that other machines built, below this folder",
    )
    parser.add_argument(
        "--release", action="store_true", help="publish a release instead of a commit"
    )
    parser.add_argument("--sdist", type=Path, metavar="FILE", help="the sdist of a release")
    parser.add_argument(
        "--attach",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a file to publish beside the wheels, such as SHA256SUMS; may be repeated",
    )


def run(args: argparse.Namespace) -> int:
    the_matrix = matrix.load()
    if not args.release:  # a release has every variant
        the_matrix = the_matrix.of_commit(args.also)
    commit = git.read(Path.cwd())
    store = cli.bucket(args)
    names = (
        plan.release_wheels(the_matrix) if args.release else plan.commit_wheels(the_matrix, commit)
    )
    if args.cells:
        try:
            collect(args.cells, names, args.wheels, with_symbols=not args.release)
        except PublishError as error:
            if not args.release:
                fail(store, commit, error.what)
            raise
    paths = [args.wheels / name for name in names]
    result = publish(
        store,
        [read(path) for path in paths if path.exists()],
        commit,
        the_matrix,
        release=args.release,
        reused_from=read_reused(args.cells or args.wheels, commit),
        sdist=args.sdist,
        attachments=args.attach,
        signer=cli.index_signer(args),
        report=partial(cli.progress, args),
    )
    state = "and is the nightly" if result.is_nightly else "nightly/ is unchanged"
    if args.release:
        state = "as a release"
    new = f"{len(result.created)} new files, {len(result.pages)} pages changed"
    cli.show(args, result, f"{result.unit.name} is published, {state}: {new}")
    return 0
