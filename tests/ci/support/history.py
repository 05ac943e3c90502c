"""Buckets with a history, made without publishing it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

from ci.index import pages, records
from ci.index.manifest import ListedVariant, Unit, dump, of_matrix
from ci.index.records import (
    Commits,
    CommitStatus,
    Ledger,
    Nightly,
    Records,
    State,
    Yanked,
)
from ci.publish import plan
from ci.store import Store
from tests.ci.support.wheels import Factory

STAND_IN = b"a wheel"  # the content of history's wheels: nobody reads it


def units(factory: Factory, count: int) -> list[Unit]:
    """The units of commits 1 … count, newest first, without making their wheels."""
    template = factory.wheels(factory.commit(1))
    found = []
    for number in range(count, 0, -1):
        commit = factory.commit(number)
        names = plan.commit_wheels(factory.matrix, commit)
        wheels = [
            dataclasses.replace(
                old,
                path=Path(name),
                version=name.split("-")[1],
                sha256=hashlib.sha256(name.encode()).hexdigest(),
                build=dataclasses.replace(old.build, commit=commit.sha),
            )
            for name, old in zip(sorted(names), sorted(template, key=lambda w: w.path.name))
        ]
        found.append(plan.unit(wheels, commit, factory.matrix, "2026-11-05T12:00:00Z"))
    return found


def seed(
    write: Callable[[str, bytes], None],
    store: Store,
    factory: Factory,
    count: int,
    *,
    whole: bool = True,
) -> None:
    """Fills an empty bucket with `count` commits: every object a real one would have.

    whole: with the objects in the commits' own folders, which no later commit asks for.
    """
    history = units(factory, count)
    for unit in history if whole else ():
        manifest = of_matrix(unit, factory.matrix)
        objects = {f"{unit.prefix}{file.name}": STAND_IN for file in unit.files}
        objects.update({f"{key}.metadata": STAND_IN for key in objects})
        objects[f"{unit.prefix}manifest.json"] = dump(manifest)
        objects.update(pages.of_unit(manifest, Yanked()))
        for key, body in objects.items():
            for address in (*store.aliases(key), key):
                write(address, body)
    variants = {cuda.variant: ListedVariant(cuda.default) for cuda in factory.matrix.cudas}
    newest = history[: factory.matrix.nightlies]
    said = [CommitStatus(u.name, u.number, u.time, State.COMPLETE, "", u.published) for u in newest]
    state = Records(
        nightlies=Ledger(count, tuple(newest), variants),
        nightly=Nightly().moved_to(newest[0], variants),
        commits=Commits(count, tuple(said[: records.RECENT])),
    )
    for record, value in (
        (records.NIGHTLIES, state.nightlies),
        (records.NIGHTLY, state.nightly),
        (records.COMMITS, state.commits),
    ):
        write(record.key, record.dump(value))
    for key, body in pages.shared(state).items():
        for address in (*store.aliases(key), key):
            write(address, body)
