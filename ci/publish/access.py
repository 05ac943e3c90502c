"""Reads and writes records so that retries are idempotent and no write of others is lost."""

from __future__ import annotations

import hashlib
from typing import Optional, TypeVar

from ci.index.records import Record
from ci.publish.errors import Conflict
from ci.store import AlreadyExists, Body, NotFound, Object, ObjectInfo, Store, StoreUnavailable

T = TypeVar("T")

# Each lost conditional write means that another one succeeded; so many in a row are not a race.
ATTEMPTS = 100


def read(store: Store, record: Record[T]) -> T:
    """The current record. Raises BadRecord for one that was edited by hand."""
    return get(store, record)[0]


def get(store: Store, record: Record[T]) -> tuple[T, Optional[str]]:
    """The record and its ETag; if it does not exist, an empty record and None."""
    value, found = get_whole(store, record)
    return value, found.etag if found else None


def get_whole(store: Store, record: Record[T]) -> tuple[T, Optional[Object]]:
    """The record and its object; if it does not exist, an empty record and None."""
    try:
        found = store.get(record.key)
    except NotFound:
        return record.empty, None
    return record.parse(found.body, f"{record.key} in {store.name}"), found


def put(store: Store, key: str, body: Body, etag: Optional[str]) -> str:
    """Replaces the version `etag`, or creates the object if `etag` is None; returns the new ETag.

    Raises AlreadyExists and Changed.
    """
    return store.create(key, body) if etag is None else store.replace(key, body, etag)


def ensure(store: Store, key: str, body: Body) -> Optional[str]:
    """Creates a write-once file at all its addresses; None if it exists with the same content.

    Returns its ETag. Raises Conflict if it exists with other content, which is left unchanged.
    """
    for address in store.aliases(key):
        _ensure(store, address, body)
    # The key itself is created last: if it exists, its other addresses do too.
    return _ensure(store, key, body)


def check_same(store: Store, key: str, sha256: str) -> None:
    """Raises Conflict unless the object at `key` has that sha256; NotFound if it does not exist."""
    found = digest(store, store.head(key))
    if found != sha256:
        raise Conflict(
            f"{key} exists in {store.name} with other content:\n"
            f"  there: sha256 {found}\n"
            f"  here:  sha256 {sha256}",
            means="files of a commit or release are write-once; that one is unchanged",
            do="find out why the build is not reproducible; publish a change as another commit",
        )


def digest(store: Store, entry: ObjectInfo) -> str:
    """The sha256 of an object, downloaded if the bucket does not store its digest."""
    if entry.sha256 is not None:
        return entry.sha256
    found = hashlib.sha256()
    for chunk in store.read(entry):
        found.update(chunk)
    return found.hexdigest()


def holds(store: Store, entry: ObjectInfo, body: Body) -> bool:
    """Whether an object has the content `body`; it is downloaded if no digest is stored."""
    known = entry.holds(body)
    return digest(store, entry) == body.sha256 if known is None else known


def look(store: Store, key: str) -> Optional[ObjectInfo]:
    """The object's metadata, or None if it does not exist."""
    try:
        return store.head(key)
    except NotFound:
        return None


def too_many_changes(store: Store, key: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"{key} in {store.name} changed under each of {ATTEMPTS} attempts to write it",
        means="many publishers are running, or the storage no longer honours conditions as it did",
        do="wait for the others; if there are none, delete .store/ in the bucket to probe it again",
    )


def _ensure(store: Store, address: str, body: Body) -> Optional[str]:
    for _ in range(ATTEMPTS):
        try:
            return store.create(address, body)
        except AlreadyExists:
            try:
                check_same(store, address, body.sha256)
            except NotFound:
                continue  # another publisher's write was in progress, and failed: try ours again
            return None
    raise too_many_changes(store, address)
