"""Every list and page again, from what is complete: the same, unless somebody touched them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Iterator

from ci.index import fields, pages, records
from ci.index.manifest import Manifest
from ci.index.records import State
from ci.matrix import Matrix
from ci.publish import access
from ci.publish.aliases import alias_nightly
from ci.publish.care import find
from ci.publish.ledgers import complete, list_nightly, list_release, move_nightly, set_status
from ci.publish.view import View, unit_pages
from ci.store import Store


@dataclass(frozen=True)
class ReindexResult:
    """What there is, and what was not as it should be.

    units: how many have pages of their own. listed: complete ones that no list had.
    """

    units: int
    pages: int
    listed: tuple[str, ...]
    written: tuple[str, ...]


def reindex(store: Store, matrix: Matrix, report: Callable[[str], None]) -> ReindexResult:
    """Brings ledgers, pages and the nightly aliases up to what is complete in the bucket.

    report: is told each unit.
    """
    written: list[str] = []
    listed: list[str] = []
    units = count = 0
    for manifest in manifests_in(store):
        unit = manifest.unit
        report(unit.name)
        view = View(store)
        view.see(unit.prefix)
        if is_left_out(view, manifest, matrix):
            _list(view, manifest, matrix)
            listed.append(unit.name)

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
    """Whether a complete unit belongs into the ledger of its kind and is not in it.

    So it is where a store lost a ledger's write, and where a publisher stopped after the commit
    point. One that `prune` began to remove stays out.
    """
    unit = manifest.unit
    ledger = view.read(records.RELEASES if unit.release else records.NIGHTLIES)
    limit = None if unit.release else matrix.nightlies
    if any(other.name == unit.name for other in ledger.units):
        return False
    if ledger.with_unit(unit, manifest.listed, limit).units == ledger.units:
        return False  # older than all of a list that is full
    status = None if unit.release else view.read(records.status(unit.name))
    return status is None or status.state is not State.PRUNED


def _list(view: View, manifest: Manifest, matrix: Matrix) -> None:
    unit = manifest.unit
    if unit.release:
        list_release(view, manifest)
        return
    list_nightly(view, manifest, matrix.nightlies)
    move_nightly(view, manifest)
    set_status(view, complete(unit, unit.published))


def manifests_in(store: Store) -> Iterator[Manifest]:
    """The manifests of all commits and releases in the bucket; this one call pages through it."""
    for name in commits_in(store):
        if access.look(store, f"{name}/manifest.json"):
            yield find(store, name)
    for entry in store.list("releases/download/"):
        folder, _, name = entry.key.rpartition("/")
        if name == "manifest.json":
            yield find(store, folder.rpartition("/")[2])


def commits_in(store: Store) -> Iterator[str]:
    """The commits that have anything in the bucket, complete or not."""
    return (name for name in store.folders() if fields.COMMIT.fullmatch(name))
