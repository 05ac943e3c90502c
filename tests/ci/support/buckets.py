"""Looking into a bucket."""

from __future__ import annotations

import re

from ci.index import records
from ci.publish import access
from ci.store import Store


def nightly_of(store: Store) -> str | None:
    """The commit that ``nightly/`` is."""
    unit = access.read(store, records.NIGHTLY).unit
    return unit.name if unit else None


def contents(store: Store) -> dict[str, bytes]:
    """Every object, by its canonical key."""
    return {entry.key: store.get(entry.key).body for entry in store.list("")}


def linked(page: bytes) -> list[str]:
    """What the anchors of a simple page link to, without the hashes."""
    return re.findall(r'href="([^"#]+)#', page.decode())
