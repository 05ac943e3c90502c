"""``python -m ci status``: what a bucket holds, what is missing, and why."""

from __future__ import annotations

import argparse

from ci import matrix
from ci.publish import cli, status
from ci.publish.status import BucketStatus, UnitStatus

HELP = "say what a bucket holds, what is missing from it, and why"


def configure(parser: argparse.ArgumentParser) -> None:
    cli.add_bucket(parser)
    cli.add_json(parser)
    parser.add_argument(
        "unit", nargs="?", metavar="COMMIT", help="40 hex digits, or a release: v0.5.4"
    )


def run(args: argparse.Namespace) -> int:
    store = cli.bucket(args)
    if args.unit:
        unit = status.of_unit(store, args.unit, matrix.load())
        cli.show(args, unit, _unit(unit))
        return 1 if unit.problems else 0
    cli.progress(args, f"read the records and manifests of {store.name}")
    bucket = status.of_bucket(store, matrix.load())
    cli.show(args, bucket, _bucket(bucket))
    return 1 if bucket.problems else 0


def _bucket(found: BucketStatus) -> str:
    return "\n".join(
        [
            f"nightly    {found.nightly or 'none yet'}",
            f"nightlies  {found.nightlies} listed",
            f"releases   {', '.join(found.releases) or 'none'}",
            *(f"yanked     {unit}: {why}" for unit, why in sorted(found.yanked.items())),
            *(
                f"{entry.state.value:9}  {entry.unit}  {entry.updated}  {entry.reason}".rstrip()
                for entry in found.recent
            ),
            *(f"problem    {problem}" for problem in found.problems),
        ]
    )


def _unit(found: UnitStatus) -> str:
    facts = {
        "state": f"{found.state} {found.reason}".rstrip(),
        "number": found.number,
        "updated": found.updated or None,
        "published": found.published,
        "nightly": "yes" if found.nightly else "no",
        "listed": "yes" if found.listed else "no",
        "yanked": found.yanked,
        "pinned": found.pinned,
    }
    return "\n".join(
        [
            found.unit,
            *(f"  {name:9}  {value}" for name, value in facts.items() if value is not None),
            *(f"  {file.size:>11,}  {file.sha256}  {file.name}" for file in found.files),
            *(f"  problem    {problem}" for problem in found.problems),
        ]
    )
