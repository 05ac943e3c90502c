"""``python -m ci release``: builds a release here, or collects what several machines built."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from ci import git, keys, matrix, release
from ci.audit import audit_all
from ci.builder.reused import StoreWheels, read_reused, write_reused
from ci.publish import cli, plan, publish
from ci.publish.collect import collect
from ci.release.errors import ReleaseError
from ci.reuse import Reuse
from ci.stages import Stages
from ci.store import open_store

HELP = "build every wheel of a release, its sdist, checksums and provenance"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", help="0.5.4; by default the one of this commit's tag")
    parser.add_argument("--out", type=Path, help="a folder; by default wheelhouse/release-VERSION")
    parser.add_argument("--key", type=Path, help="PEM file of the Ed25519 key to sign with")
    cli.add_index_key(parser)
    parser.add_argument("--reuse", metavar="BUCKET", help="reuse its unchanged native files")
    parser.add_argument("--publish", metavar="BUCKET", help="a folder or s3://name to publish to")
    part = parser.add_mutually_exclusive_group()
    part.add_argument(
        "--variant",
        action="append",
        default=[],
        help="build only this variant, such as cu118; collect with --cells on another machine",
    )
    part.add_argument(
        "--cells",
        type=Path,
        metavar="FOLDER",
        help="build nothing: collect the complete set that other machines built, below this folder",
    )


def run(args: argparse.Namespace) -> int:
    console = Console(soft_wrap=True)
    stages = Stages(console)
    repo = Path.cwd()
    key = keys.load_key(args.key)
    commit = git.read(repo)
    version = args.version or release.version_of_tag(repo)
    if args.variant and args.publish:
        raise ReleaseError(
            f"a release of {', '.join(args.variant)} alone cannot be published",
            means="a release is published with all its variants or not at all",
            do="build all variants, then: release --cells FOLDER --publish BUCKET",
        )
    released = release.matrix_of(matrix.load(), version)
    out = args.out or Path("wheelhouse") / f"release-{version}"
    reuse = Reuse(StoreWheels(open_store(args.reuse))) if args.reuse else None
    if args.cells:
        paths = collect(args.cells, plan.release_wheels(released), out)
        reused = read_reused(args.cells, commit)
    else:
        paths = release.build_wheels(
            repo,
            out,
            version,
            commit=commit,
            variants=args.variant,
            reuse=reuse,
            console=console,
            stages=stages,
        )
        reused = reuse.used if reuse else {}
        write_reused(out, commit, reused)
    with stages.timed("audit"):
        wheels = [report.wheel for report in audit_all(paths, released, repo)]
    if not args.variant:
        paths = release.finish(
            repo, out, version, paths, commit=commit, key=key, console=console, stages=stages
        )
    for path in paths:
        console.print(f"{path}  {path.stat().st_size:,} bytes", highlight=False)
    if args.publish and not args.variant:
        with stages.timed("publish"):
            publish(
                open_store(args.publish),
                wheels,
                commit,
                released,
                release=True,
                reused_from=reused,
                sdist=next(path for path in paths if path.name.endswith(".tar.gz")),
                attachments=[p for p in paths if p.suffix not in (".whl", ".gz")],
                signer=cli.index_signer(args),
                report=console.print,
            )
    console.print(stages.table())
    return 0
