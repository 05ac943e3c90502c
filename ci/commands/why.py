"""``python -m ci why``: where a commit's wheels are, or why it has none."""

from __future__ import annotations

import argparse
import re
from datetime import datetime, timezone
from pathlib import Path

from ci import git, names
from ci.errors import CiError
from ci.publish import cli, why
from ci.publish.plan import instant
from ci.publish.why import Why

HELP = "say why a commit has no wheels, or where they are"


def configure(parser: argparse.ArgumentParser) -> None:
    cli.add_bucket(parser)
    cli.add_json(parser)
    parser.add_argument(
        "commit",
        metavar="COMMIT",
        help="40 hex digits, or any name that git resolves in this clone",
    )
    parser.add_argument(
        "--base",
        default=names.BASE,
        metavar="URL",
        help="base of the printed URLs (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    repo = Path.cwd()
    landed = git.landed(repo, args.commit)
    if landed is None and not re.fullmatch("[0-9a-f]{40}", args.commit):
        raise CiError(
            f"{args.commit} is not a commit in this clone",
            do="give all 40 digits, or fetch it: git fetch origin",
        )
    commit = landed.commit if landed else args.commit
    store = cli.bucket(args)
    time = instant(datetime.fromtimestamp(landed.time, timezone.utc)) if landed else None
    found = why.of(store, commit, time)
    lines = [_text(found, args.base)]
    if landed and landed.merge not in (None, commit):
        lines.append(f"It was merged by {landed.merge}, whose wheels contain it:")
        lines.append(_text(why.of(store, str(landed.merge)), args.base))
    elif landed and landed.merge is None:
        lines.append("It is not in the history of HEAD; only commits of main have wheels.")
    cli.show(args, found, "\n".join(lines))
    return 0 if found.wheels else 1


def _text(found: Why, base: str) -> str:
    return "\n".join(
        [
            *([found.subject] if found.subject else []),
            found.said,
            *(f"  {names.documented_url(base, key)}" for key in found.wheels),
            *(f"  near: {n.commit} (number {n.number}, {n.time}) {n.subject}" for n in found.near),
        ]
    )
