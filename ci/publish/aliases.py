"""The wheels in ``nightly/``: copies of the newest commit's, made inside the bucket."""

from __future__ import annotations

from typing import Optional

from ci import names
from ci.index import records
from ci.index.manifest import File, Unit
from ci.index.records import Nightly
from ci.publish import access
from ci.publish.view import View
from ci.store import Changed, ObjectInfo, Store


def alias_nightly(view: View) -> tuple[str, ...]:
    """Copies the nightly's documented wheels to ``nightly/``; returns the changed keys.

    Each copy replaces only the version that was seen before the record was read. The record is read
    again at the end: another publisher may have moved the nightly meanwhile and found its wheels
    already in place, before ours replaced them (ABA).
    """
    copied: list[str] = []
    for _ in range(access.ATTEMPTS):
        nightly = view.read(records.NIGHTLY)
        unit = nightly.unit
        if unit is None:
            return ()
        targets = _targets(view.store, nightly)
        if not all(map(view.knows, targets)):
            view.look(targets)
            continue
        stale = [a for a, file in targets.items() if not _holds(view, view.entry(a), unit, file)]
        try:
            for address in stale:
                entry = view.entry(address)
                source = unit.prefix + targets[address].name
                view.store.copy(source, address, entry.etag if entry else None)
                copied.append(address)
        except Changed:  # another publisher was faster
            view.look(targets)
            continue
        if not stale or view.read(records.NIGHTLY, fresh=True).unit == unit:
            return tuple(copied)
        view.look(targets)
    raise access.too_many_changes(view.store, f"{names.NIGHTLY}/")


def _targets(store: Store, nightly: Nightly) -> dict[str, File]:
    """Address in ``nightly/`` → the file that belongs there."""
    return {
        address: file
        for file in nightly.aliased
        for key in (names.nightly_key(file.name),)
        for address in (*store.aliases(key), key)
    }


def _holds(view: View, alias: Optional[ObjectInfo], unit: Unit, file: File) -> bool:
    if alias is None or alias.size != file.size:
        return False
    if alias.sha256 is None and alias.md5 is not None:
        # If this ETag is an MD5, all of the bucket's are.
        key = unit.prefix + file.name
        source = view.entry(key) or access.look(view.store, key)
        return source is not None and source.etag.strip('"') == alias.md5
    return access.digest(view.store, alias) == file.sha256
