"""Reading and writing records, so that a repetition converges and no publisher undoes another."""

from __future__ import annotations

import hashlib
from typing import Optional, TypeVar

from ci.index.records import Record
from ci.publish.errors import Conflict
from ci.store import AlreadyExists, Body, NotFound, Object, ObjectInfo, Store, StoreUnavailable

T = TypeVar("T")

# Whoever loses a conditional write lost it to somebody who got on; so many in a row is no race.
ATTEMPTS = 100


def read(store: Store, record: Record[T]) -> T:
    """The record as it is now. Raises BadRecord for one that was edited by hand."""
    return get(store, record)[0]


def get(store: Store, record: Record[T]) -> tuple[T, Optional[str]]:
    """The record with its ETag; as empty, and without one, if there is none."""
    value, found = get_whole(store, record)
    return value, found.etag if found else None


def get_whole(store: Store, record: Record[T]) -> tuple[T, Optional[Object]]:
    """The record and the object that it was read from; as empty, and None, if there is none."""
    try:
        found = store.get(record.key)
    except NotFound:
        return record.empty, None
    return record.parse(found.body, f"{record.key} in {store.name}"), found


def put(store: Store, key: str, body: Body, etag: Optional[str]) -> str:
    """Writes over the version `etag`, or where nothing is; returns the new ETag.

    Raises AlreadyExists and Changed.
    """
    return store.create(key, body) if etag is None else store.replace(key, body, etag)


def ensure(store: Store, key: str, body: Body) -> Optional[str]:
    """Creates a write-once file at all its addresses; None if it was there, the same.

    Returns its ETag. Raises Conflict if it is there with other content; then this file was not
    changed.
    """
    for address in store.aliases(key):
        _ensure(store, address, body)
    # The key itself comes last: where it is, the other addresses are.
    return _ensure(store, key, body)


def check_same(store: Store, key: str, sha256: str) -> None:
    """Raises Conflict unless the object at `key` has that content; NotFound if there is none."""
    found = digest(store, store.head(key))
    if found != sha256:
        raise Conflict(
            f"{key} exists in {store.name} with other content:\n"
            f"  there: sha256 {found}\n"
            f"  here:  sha256 {sha256}",
            means="files of a commit or a release are written once; the one there was not changed",
            do="if the build is not reproducible, find out why; a changed tree is another commit",
        )


def digest(store: Store, entry: ObjectInfo) -> str:
    """The sha256 of an object, by downloading it where the bucket does not know."""
    if entry.sha256 is not None:
        return entry.sha256
    found = hashlib.sha256()
    for chunk in store.read(entry):
        found.update(chunk)
    return found.hexdigest()


def holds(store: Store, entry: ObjectInfo, body: Body) -> bool:
    """Whether an object is `body`, by downloading it where nothing else tells."""
    known = entry.holds(body)
    return digest(store, entry) == body.sha256 if known is None else known


def look(store: Store, key: str) -> Optional[ObjectInfo]:
    """What is known of the object, or None if there is none."""
    try:
        return store.head(key)
    except NotFound:
        return None


def too_many_changes(store: Store, key: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"{key} in {store.name} changed under each of {ATTEMPTS} attempts to write it",
        means="many publishers are at work, or the storage treats conditions otherwise than it did",
        do="wait for the others; if there are none, remove .store/ in it: it is then probed again",
    )


def _ensure(store: Store, address: str, body: Body) -> Optional[str]:
    for _ in range(ATTEMPTS):
        try:
            return store.create(address, body)
        except AlreadyExists:
            try:
                check_same(store, address, body.sha256)
            except NotFound:
                continue  # another publisher's unfinished write, which then failed: ours again
            return None
    raise too_many_changes(store, address)
