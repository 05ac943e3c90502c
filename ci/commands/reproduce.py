"""``python -m ci reproduce``: do environments that share nothing build the same bits?"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ci import git, reproduce
from ci.container import image, podman
from ci.container.podman import NoContainers
from ci.reproduce import Attempt, Place

HELP = "build this commit as other users, by other Pythons and in a container; compare the bits"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record there, too")


def run(args: argparse.Namespace) -> int:
    console = Console(soft_wrap=True)
    repo = Path.cwd()
    commit = git.read(repo)
    environ, name, reason = dict(os.environ), "", ""
    try:
        environ = podman.prepare(repo / "build" / "podman")
        name = image.ensure(repo, environ, console)
    except NoContainers as error:
        reason = error.what
    outcomes = []
    for place in reproduce.places(name):
        outcomes.append(_build(repo, commit.sha, place, environ))
        said = outcomes[-1].reason or f"{outcomes[-1].seconds:.0f} s"
        console.print(f"{place.name}, Python {place.python}: {said}", highlight=False)
    if reason:
        outcomes.append(Attempt(Place("container", "", "3.9"), reason=reason))
    console.print(_table(outcomes))
    different = reproduce.differing(outcomes)
    for wheel, digest in sorted((outcomes[0].wheels or {}).items()):
        console.print(f"{digest}  {wheel}", highlight=False)
    console.print(f"different: {', '.join(different)}" if different else "the same bits everywhere")
    if args.json:
        record = {"commit": commit.sha, "places": [reproduce.as_json(found) for found in outcomes]}
        args.json.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return 1 if different else 0


def _build(repo: Path, commit: str, place: Place, environ: dict[str, str]) -> Attempt:
    if place.user and not reproduce.may_change_user():
        return Attempt(place, reason="only root may build as another user")
    return reproduce.build(repo, commit, place, environ)


def _table(outcomes: list[Attempt]) -> Table:
    table = Table("place", "Python", "user", "umask", "time zone", "MAX_JOBS", "seconds", "wheels")
    for outcome in outcomes:
        place = outcome.place
        table.add_row(
            place.name,
            place.python,
            place.user or "this one",
            f"{place.umask:03o}",
            place.timezone,
            place.jobs or "unset",
            f"{outcome.seconds:.0f}",
            f"not built: {outcome.reason}" if outcome.reason else str(len(outcome.wheels or {})),
        )
    return table
