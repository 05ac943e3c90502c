"""A command's snapshot of a bucket, and writes conditional on it.

A page replaces only the version that was seen before the records were read (`If-Match`). So each
version of a page is rendered from records at least as new as its predecessor's: an overtaken
publisher loses the conditional write, and starts over. `View` enforces that order: whenever it
looks at addresses, it drops the records that it read before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, Optional, TypeVar

from ci.index import pages, records
from ci.index.manifest import Manifest
from ci.index.records import Record, Records
from ci.publish import access
from ci.store import AlreadyExists, Body, Changed, ObjectInfo, Store

T = TypeVar("T")


class View:
    """Versions of addresses, then records; each is requested once and updated by own writes."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._listed: list[str] = []  # listed prefixes: an unseen address below one does not exist
        self._entries: dict[str, Optional[ObjectInfo]] = {}
        self._records: dict[str, tuple[Any, Optional[str]]] = {}  # key → value and ETag
        self._stored: dict[str, Optional[Body]] = {}  # key → a record's stored bytes

    def see(self, *prefixes: str) -> None:
        """Lists the addresses below each prefix: one request for up to 1000 of them."""
        self._records.clear()
        for prefix in prefixes:
            found = {entry.key: entry for entry in self.store.scan(prefix)}
            kept = {key: e for key, e in self._entries.items() if not key.startswith(prefix)}
            self._entries = {**kept, **found}
            self._listed.append(prefix)

    def look(self, addresses: Iterable[str]) -> None:
        """Looks at each address, even if known: one request each."""
        self._records.clear()
        for address in addresses:
            self._entries[address] = access.look(self.store, address)

    def expect_missing(self, record: Record[Any]) -> None:
        """Assumes that a record is missing if a listing did not show it.

        If it exists by now, creating it fails, and then it is read.
        """
        if self.knows(record.key) and self.entry(record.key) is None:
            self._records[record.key] = record.empty, None

    def knows(self, address: str) -> bool:
        return address in self._entries or any(map(address.startswith, self._listed))

    def entry(self, address: str) -> Optional[ObjectInfo]:
        """The object as it was seen; None if it did not exist. Call `see` or `look` first."""
        return self._entries.get(address)

    def below(self, prefix: str) -> set[str]:
        """The addresses below a prefix that was listed with `see`."""
        return {a for a, entry in self._entries.items() if entry and a.startswith(prefix)}

    def read(self, record: Record[T], *, fresh: bool = False) -> T:
        """The record, cached since the last look; `fresh`: read it again.

        Raises BadRecord for one that was edited by hand.
        """
        if fresh:
            self._records.pop(record.key, None)
        value: T = self._read(record)[0]
        return value

    def stored(self, record: Record[Any]) -> Optional[tuple[str, int]]:
        """The sha256 and size of the bytes of a record that was read; None if it does not exist."""
        self._read(record)
        body = self._stored.get(record.key)
        return (body.sha256, body.size) if body else None

    def read_all(self) -> Records:
        """All records that shared pages are rendered from."""
        return Records(
            self.read(records.RELEASES),
            self.read(records.NIGHTLIES),
            self.read(records.NIGHTLY),
            self.read(records.COMMITS),
            self.read(records.YANKED),
        )

    def update(self, record: Record[T], change: Callable[[T], T]) -> T:
        """Applies `change` to the current record; retried if another publisher wrote meanwhile.

        If there is nothing to do, `change` returns its argument, and nothing is written: so a retry
        after a lost response finds its own write and stops.
        """
        for _ in range(access.ATTEMPTS):
            was_known = record.key in self._records
            current, etag = self._read(record)
            changed = change(current)
            if changed is current:
                if not was_known:
                    return current
                self._records.pop(record.key, None)  # the cached version may be outdated
                continue
            body = Body.of(record.dump(changed))
            try:
                written = access.put(self.store, record.key, body, etag)
            except (AlreadyExists, Changed):
                self._records.pop(record.key, None)
                continue
            self._records[record.key], self._stored[record.key] = (changed, written), body
            return changed
        raise access.too_many_changes(self.store, record.key)

    def refresh(
        self, keys: Iterable[str], render: Callable[[], Mapping[str, bytes]]
    ) -> tuple[str, ...]:
        """Writes the pages in `keys` that differ from `render()`; returns the keys that it wrote.

        render: reads records of this view; called again after another publisher wrote a page.
        """
        todo = {address: key for key in keys for address in (*self.store.aliases(key), key)}
        unknown = [address for address in todo if not self.knows(address)]
        if unknown:
            self.look(unknown)
        written: list[str] = []
        for _ in range(access.ATTEMPTS):
            bodies = {key: Body.of(page) for key, page in render().items()}
            lost = {}
            for address, key in todo.items():
                try:
                    if self._write(address, bodies[key]):
                        written.append(address)
                except (AlreadyExists, Changed):
                    lost[address] = key
            if not lost:
                return tuple(written)
            todo = lost
            self.look(todo)
        raise access.too_many_changes(self.store, ", ".join(todo))

    def ensure(self, key: str, body: Body) -> bool:
        """Creates a write-once file; False if it exists with the same content. Raises Conflict."""
        etag = access.ensure(self.store, key, body)
        if etag is not None:
            self._note(key, body, etag)
        return etag is not None

    def _write(self, address: str, body: Body) -> bool:
        """Writes a page over the version that was seen, unless it is already right."""
        seen = self.entry(address)
        if seen is not None and access.holds(self.store, seen, body):
            return False
        etag = access.put(self.store, address, body, seen.etag if seen else None)
        self._note(address, body, etag)
        return True

    def _note(self, address: str, body: Body, etag: str) -> None:
        """Records the version that was just written."""
        now = datetime.now(timezone.utc)
        self._entries[address] = ObjectInfo(address, body.size, etag, now, body.sha256)

    def _read(self, record: Record[T]) -> tuple[T, Optional[str]]:
        if record.key not in self._records:
            value, found = access.get_whole(self.store, record)
            self._records[record.key] = value, found.etag if found else None
            self._stored[record.key] = Body.of(found.body) if found else None
        return self._records[record.key]


def unit_pages(view: View, manifest: Manifest) -> dict[str, bytes]:
    """The pages in a unit's own folder, as the records have them now."""
    status = None if manifest.unit.release else view.read(records.status(manifest.unit.name))
    yanked = view.read(records.YANKED)
    return pages.of_unit(manifest, yanked, docs=status is not None and status.docs)
