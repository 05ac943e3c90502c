"""Rebuilds every ledger and page from the manifests, and repairs those that differ."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Callable, Iterator

from ci.index import fields, pages, records
from ci.index.manifest import Manifest
from ci.index.records import Commits, State
from ci.matrix import Matrix
from ci.publish.aliases import alias_nightly
from ci.publish.care import NotPublished, find
from ci.publish.ledgers import (
    complete,
    is_removed,
    list_nightly,
    list_release,
    move_nightly,
    set_status,
    take_back,
)
from ci.publish.view import View, unit_pages
from ci.store import Store


@dataclass(frozen=True)
class ReindexResult:
    """What the bucket has, and what was repaired.

    units: number of complete units. listed: complete units that were missing from a ledger.
    """

    units: int
    pages: int
    listed: tuple[str, ...]
    written: tuple[str, ...]


def reindex(store: Store, matrix: Matrix, report: Callable[[str], None]) -> ReindexResult:
    """Updates ledgers, pages and the nightly aliases to match the complete units in the bucket.

    report: called for each unit.
    """
    written: list[str] = []
    listed: list[str] = []
    units = count = 0
    for manifest in manifests_in(store):
        unit = manifest.unit
        report(unit.name)
        view = View(store)
        view.see(unit.prefix)
        if not unit.release and is_removed(view, unit.name):
            continue  # `prune` has taken its pages away already, or does so now
        if is_left_out(view, manifest, matrix):
            _list(view, manifest, matrix)
            listed.append(unit.name)
        if not unit.release:
            _correct_listing(view, unit.name)

        def render(manifest: Manifest = manifest, view: View = view) -> dict[str, bytes]:
            return unit_pages(view, manifest)

        keys = render()
        written += view.refresh(keys, render)
        units, count = units + 1, count + len(keys)
    view = View(store)
    view.see(*pages.SHARED)
    view.look([pages.HOME])
    shared = pages.shared(view.read_all())
    written += view.refresh(shared, lambda: pages.shared(view.read_all()))
    written += alias_nightly(view)
    return ReindexResult(units, count + len(shared), tuple(listed), tuple(written))


def is_left_out(view: View, manifest: Manifest, matrix: Matrix) -> bool:
    """Whether a complete unit should be in the ledger of its kind and is not.

    That happens if a store loses a ledger's write, or a publisher stops after the commit point. A
    unit that `prune` began to remove is not left out in this sense.
    """
    unit = manifest.unit
    ledger = view.read(records.RELEASES if unit.release else records.NIGHTLIES)
    limit = None if unit.release else matrix.nightlies
    if any(other.name == unit.name for other in ledger.units):
        return False
    if ledger.with_unit(unit, manifest.listed, limit).units == ledger.units:
        return False  # the ledger is full of newer ones
    status = None if unit.release else view.read(records.status(unit.name))
    return status is None or status.state is not State.PRUNED


def _list(view: View, manifest: Manifest, matrix: Matrix) -> None:
    unit = manifest.unit
    if unit.release:
        list_release(view, manifest)
        return
    if set_status(view, complete(unit, unit.published)).state is State.PRUNED:
        return
    before = view.read(records.NIGHTLY)
    list_nightly(view, manifest, matrix.nightlies)
    move_nightly(view, manifest)
    if is_removed(view, unit.name):
        take_back(view, unit, before)


def _correct_listing(view: View, commit: str) -> None:
    """Makes the ledger of commits agree with a commit's own status, if it lists the commit."""
    status = view.read(records.status(commit))

    def correct(commits: Commits) -> Commits:
        listed = next((entry for entry in commits.commits if entry.unit == commit), None)
        if status is None or listed is None:
            return commits
        if (listed.state, listed.docs) == (status.state, status.docs):
            return commits
        return commits.with_status(status)

    view.update(records.COMMITS, correct)


def manifests_in(store: Store) -> Iterator[Manifest]:
    """The manifests of all commits and releases in the bucket, found by listing all of it."""
    for name in commits_in(store):
        with suppress(NotPublished):
            yield find(store, name)
    for entry in store.list("releases/download/"):
        folder, _, name = entry.key.rpartition("/")
        if name == "manifest.json":
            yield find(store, folder.rpartition("/")[2])


def commits_in(store: Store) -> Iterator[str]:
    """The commits with a folder in the bucket, complete or not."""
    return (name for name in store.folders() if fields.COMMIT.fullmatch(name))
