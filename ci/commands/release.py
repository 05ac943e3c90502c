"""``python -m ci release``: every file of a release."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from ci import git, matrix, release
from ci.audit import audit
from ci.build.donors import Bucket, Donors
from ci.publish import publish
from ci.release import provenance
from ci.store import open_store
from ci.wheel.reader import read

HELP = "build every wheel of a release, its sdist, checksums and provenance"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", help="0.5.4; by default the one of this commit's tag")
    parser.add_argument("--out", type=Path, help="a folder; by default wheelhouse/release-VERSION")
    parser.add_argument("--key", type=Path, help="PEM file of the Ed25519 key to sign with")
    parser.add_argument("--reuse", metavar="BUCKET", help="take unchanged native files from there")
    parser.add_argument("--publish", metavar="BUCKET", help="a folder or s3://name to publish to")


def run(args: argparse.Namespace) -> int:
    console = Console(soft_wrap=True)
    repo = Path.cwd()
    key = provenance.load_key(args.key)
    commit = git.read(repo)
    version = args.version or release.version_of_tag(repo)
    out = args.out or Path("wheelhouse") / f"release-{version}"
    donors = Donors(Bucket(open_store(args.reuse))) if args.reuse else None
    paths = release.release(
        repo, out, version, commit=commit, key=key, donors=donors, console=console
    )
    released = release.matrix_of(matrix.load(), version)
    wheels = [read(path) for path in paths if path.suffix == ".whl"]
    for wheel in wheels:
        audit(wheel.path, released, repo)
    for path in paths:
        console.print(f"{path}  {path.stat().st_size:,} bytes", highlight=False)
    if args.publish:
        publish(
            open_store(args.publish),
            wheels,
            commit,
            released,
            release=True,
            reused_from=donors.used if donors else {},
            attachments=[path for path in paths if path.suffix != ".whl"],
            report=console.print,
        )
    return 0
