"""Bringing pages and aliases up to the records; safe to repeat, and beside other publishers.

A page is written only over the version that was seen before the records were read. So every
version of it was made from records at least as new as the one before it: an overtaken publisher
loses the conditional write, and looks again.
"""

from __future__ import annotations

from typing import Callable, Iterable, Mapping, Optional

from ci import names
from ci.index import records
from ci.index.manifest import Unit
from ci.index.pages import Records
from ci.publish import access
from ci.store import AlreadyExists, Body, Changed, Entry, Store


def read_records(store: Store) -> Records:
    return Records(
        access.read(store, records.RELEASES),
        access.read(store, records.NIGHTLIES),
        access.read(store, records.NIGHTLY),
        access.read(store, records.COMMITS),
        access.read(store, records.YANKED),
    )


def refresh(
    store: Store,
    keys: Iterable[str],
    render: Callable[[], Mapping[str, bytes]],
    *,
    new: bool = False,
) -> list[str]:
    """Writes those pages of `keys` that are not as `render()` has them; returns what it wrote.

    render: reads the records and renders; called again whenever somebody else wrote a page.
    new: the pages are most likely not there yet, so try to create them before looking.
    """
    todo = {address: key for key in keys for address in (*store.aliases(key), key)}
    seen = {address: None if new else access.look(store, address) for address in todo}
    written = []
    for _ in range(access.ATTEMPTS):
        pages = render()
        lost = {}
        for address, key in todo.items():
            try:
                if _write(store, address, Body.of(pages[key]), seen[address]):
                    written.append(address)
            except (AlreadyExists, Changed):
                lost[address] = key
        if not lost:
            return written
        todo = lost
        seen = {address: access.look(store, address) for address in todo}
    raise access.too_many_changes(store, ", ".join(todo))


def alias_nightly(store: Store) -> list[str]:
    """Copies the nightly's documented wheels to ``nightly/``; returns the keys that changed.

    Each copy is made only over the version that was seen before the record was read.
    """
    copied: list[str] = []
    unit = access.read(store, records.NIGHTLY).unit
    for _ in range(access.ATTEMPTS):
        if unit is None:
            return copied
        targets = {
            address: file
            for file in documented(unit)
            for key in (names.nightly_key(file),)
            for address in (*store.aliases(key), key)
        }
        seen = {address: access.look(store, address) for address in targets}
        now = access.read(store, records.NIGHTLY).unit
        if now != unit:
            unit = now
            continue
        sha256 = {file.name: file.sha256 for file in unit.files}
        stale = [
            (address, file, entry)
            for address, entry in seen.items()
            for file in (targets[address],)
            if entry is None or access.digest(store, entry) != sha256[file]
        ]
        if not stale:
            return copied
        for address, file, entry in stale:
            try:
                store.copy(unit.prefix + file, address, entry.etag if entry else None)
                copied.append(address)
            except Changed:
                break  # somebody else is at it: look again, at everything
    raise access.too_many_changes(store, names.nightly_key(""))


def documented(unit: Unit) -> Iterable[str]:
    """The wheels of a commit that have an alias: those of the released version."""
    return [file.name for file in unit.files if ".dev" not in file.version]


def _write(store: Store, address: str, body: Body, seen: Optional[Entry]) -> bool:
    """Writes a page unless it is what it should be already; raises AlreadyExists, Changed."""
    if seen is None:
        store.create(address, body)
    elif seen.sha256 == body.sha256:
        return False
    else:
        store.replace(address, body, seen.etag)
    return True
