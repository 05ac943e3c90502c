"""Every page again, from the records: the same bytes, unless somebody touched them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Iterator

from ci.index import fields, pages, records
from ci.index.manifest import Manifest
from ci.publish import access
from ci.publish.care import find
from ci.publish.refresh import alias_nightly, read_records, refresh
from ci.store import Store


@dataclass(frozen=True)
class ReindexResult:
    """units: how many have pages of their own; written: the pages that were not as they should."""

    units: int
    pages: int
    written: tuple[str, ...]


def reindex(store: Store, report: Callable[[str], None]) -> ReindexResult:
    """Brings all pages, and the nightly aliases, up to the records; tells `report` each unit."""
    written: list[str] = []
    units = count = 0
    for manifest in manifests_in(store):
        report(manifest.unit.name)

        def render(manifest: Manifest = manifest) -> dict[str, bytes]:
            return pages.of_unit(manifest, access.read(store, records.YANKED))

        keys = render()
        written += refresh(store, keys, render)
        units, count = units + 1, count + len(keys)
    known = read_records(store)
    shared = pages.shared(known)
    written += refresh(store, shared, lambda: pages.shared(read_records(store)))
    if known.nightly.unit:
        written += alias_nightly(store, known.nightly.unit)
    return ReindexResult(units, count + len(shared), tuple(written))


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
