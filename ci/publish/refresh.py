"""Bringing pages and aliases up to the records; safe to repeat, and beside other publishers.

A page is written only over the version that was seen before the records were read. So every
version of it was made from records at least as new as the one before it: an overtaken publisher
loses the conditional write, and looks again.
"""

from __future__ import annotations

from typing import Callable, Iterable, Mapping, Optional

from ci import names
from ci.index import records
from ci.index.manifest import File, Unit
from ci.index.records import Records
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


def alias_nightly(store: Store, unit: Unit) -> list[str]:
    """Copies the nightly's documented wheels to ``nightly/``; returns the keys that changed.

    unit: the nightly, as far as the caller knows. Each copy is made only over the version that
    was seen before the record was read, and the last thing done is to see that all is right.
    """
    copied: list[str] = []
    for _ in range(access.ATTEMPTS):
        targets = _alias_addresses(store, unit)
        seen = {address: access.look(store, address) for address in targets}
        now = access.read(store, records.NIGHTLY).unit
        if now is not None and now.name != unit.name:
            unit = now
            continue
        stale = [
            address
            for address, file in targets.items()
            if not _holds(store, seen[address], file.sha256)
        ]
        if not stale:
            return copied
        for address in stale:
            entry = seen[address]
            source = unit.prefix + targets[address].name
            try:
                store.copy(source, address, entry.etag if entry else None)
                copied.append(address)
            except Changed:
                break  # somebody else is at it: look again, at everything
    raise access.too_many_changes(store, f"{names.NIGHTLY}/")


def documented(unit: Unit) -> tuple[File, ...]:
    """The wheels of a commit that have an alias: those of the released version."""
    return tuple(file for file in unit.files if ".dev" not in file.version)


def _alias_addresses(store: Store, unit: Unit) -> dict[str, File]:
    return {
        address: file
        for file in documented(unit)
        for key in (names.nightly_key(file.name),)
        for address in (*store.aliases(key), key)
    }


def _holds(store: Store, entry: Optional[Entry], sha256: str) -> bool:
    return entry is not None and access.digest(store, entry) == sha256


def _write(store: Store, address: str, body: Body, seen: Optional[Entry]) -> bool:
    """Writes a page unless it is what it should be already; raises AlreadyExists, Changed."""
    if seen is None:
        store.create(address, body)
    elif seen.sha256 == body.sha256:
        return False
    else:
        store.replace(address, body, seen.etag)
    return True
