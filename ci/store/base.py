"""What every bucket can do, the records it answers with, and the ways in which it fails."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Callable, Iterator, Optional, Protocol, Union

from ci.errors import CiError

CHUNK = 1 << 20  # bytes: what hashing and storing hold in memory at a time
READ_CHUNK = 1 << 15  # bytes: what a reader gets at a time, and a slow one holds


class StoreError(CiError):
    """The bucket did not do what was asked of it."""


class NotFound(StoreError):
    """There is no such key: the only answer that may be read as "empty"."""


class AlreadyExists(StoreError):
    """A create-only write met an object that is there already."""


class Changed(StoreError):
    """A conditional write met another version of the object than the one it was made for."""


class BadKey(StoreError):
    """A key that no object of ours can have: refused before the bucket is asked."""


class BadDigest(StoreError):
    """The bytes that arrived are not the bytes that were announced; nothing was stored."""


class AccessDenied(StoreError):
    """The bucket refuses these credentials, or this user."""


class StoreUnavailable(StoreError):
    """The bucket cannot be reached, or fails in a way that says nothing about its contents."""


@dataclass(frozen=True)
class ObjectInfo:
    """An object as the bucket describes it."""

    key: str
    size: int  # bytes
    etag: str  # equal for equal versions; opaque
    modified: datetime  # UTC
    sha256: Optional[str] = None  # hex, where the bucket knows it
    md5: Optional[str] = None  # hex, where the bucket's ETag is known to be one

    def holds(self, body: Body) -> Optional[bool]:
        """Whether the object is `body`; None where that takes a look at its content."""
        if self.size != body.size:
            return False
        if self.sha256 is not None:
            return self.sha256 == body.sha256
        return self.md5 == body.md5 if self.md5 is not None else None


@dataclass(frozen=True)
class Object:
    """A small object, whole."""

    body: bytes
    etag: str


@dataclass(frozen=True)
class Body:
    """What is to be stored: bytes, or a file that is streamed, with the digest it must have."""

    source: Union[bytes, Path]
    sha256: str  # hex
    size: int  # bytes

    @functools.cached_property
    def md5(self) -> str:
        """Hex; for stores that know no better digest. It guards against accidents only."""
        digest = hashlib.md5(usedforsecurity=False)
        if isinstance(self.source, bytes):
            digest.update(self.source)
        else:
            with self.source.open("rb") as stream:
                for chunk in iter(lambda: stream.read(CHUNK), b""):
                    digest.update(chunk)
        return digest.hexdigest()

    @classmethod
    def of(cls, data: bytes) -> Body:
        return cls(data, hashlib.sha256(data).hexdigest(), len(data))

    @classmethod
    def file(cls, path: Path) -> Body:
        """A file, hashed now: what it holds when it is sent has to be the same."""
        with path.open("rb") as stream:
            return cls(path, sha256_of(stream), path.stat().st_size)


class Reading(Iterator[bytes]):
    """The bytes of an object as they come, at most READ_CHUNK at a time.

    Holds a file or a connection until its end, an error, or `close`.
    """

    def __init__(self, chunks: Iterator[bytes], close: Callable[[], object]) -> None:
        self._chunks, self._close = chunks, close

    def __next__(self) -> bytes:
        try:
            return next(self._chunks)
        except BaseException:
            self._close()
            raise

    def close(self) -> None:
        """Ends it early; can be called at any time, and again."""
        self._close()


class Store(Protocol):
    """A bucket. Every method is one request to it, but `list`, `scan` and `folders`, which page.

    Keys are checked by `ci.store.keys.check`. All methods raise AccessDenied and
    StoreUnavailable; each says what else it raises.
    """

    @property
    def name(self) -> str:
        """The bucket as a person would name it in a command."""

    def aliases(self, key: str) -> tuple[str, ...]:
        """Other keys under which the same object has to be stored for its address to answer."""

    def get(self, key: str) -> Object:
        """The object, whole, with its ETag. Raises NotFound."""

    def head(self, key: str) -> ObjectInfo:
        """What is known of the object without its content. Raises NotFound."""

    def read(self, entry: ObjectInfo, start: int = 0, stop: Optional[int] = None) -> Reading:
        """Bytes [start, stop) of the very version `entry` describes.

        Raises NotFound or Changed before it yields anything.
        """

    def create(self, key: str, body: Body) -> str:
        """Stores a new object and returns its ETag. Raises AlreadyExists, BadDigest."""

    def replace(self, key: str, body: Body, etag: str) -> str:
        """Replaces the version `etag` and returns the new ETag. Raises Changed, BadDigest."""

    def copy(self, source: str, target: str, etag: Optional[str]) -> None:
        """Copies inside the bucket, over the version `etag` of target, or where none is.

        Raises NotFound (no source) and Changed (target is not what it was said to be).
        """

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """The objects whose keys begin with `prefix`, in order, without aliases.

        Their ETags may be left out (empty), where they would have to be computed.
        """

    def scan(self, prefix: str) -> Iterator[ObjectInfo]:
        """The objects whose addresses begin with `prefix`, aliases too, with their ETags.

        `key` is the address of each. For whoever is about to write there.
        """

    def folders(self) -> Iterator[str]:
        """The first path segments of all keys that have more than one, in order."""

    def delete(self, key: str) -> None:
        """Removes the object; none there is no error."""


def sha256_of(stream: BinaryIO) -> str:
    """The hex digest of what is left of a binary stream."""
    digest = hashlib.sha256()
    for chunk in iter(lambda: stream.read(CHUNK), b""):
        digest.update(chunk)
    return digest.hexdigest()
