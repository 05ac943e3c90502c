"""The protocol of a bucket, its data types and its errors."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Callable, Iterator, Optional, Protocol, Union

from ci.errors import CiError

CHUNK = 1 << 20  # bytes in memory while hashing or storing
READ_CHUNK = 1 << 15  # bytes per read, which a slow client keeps in memory


class StoreError(CiError):
    """An operation on the bucket failed."""


class NotFound(StoreError):
    """The key does not exist. Only this error may be taken for "empty"."""


class AlreadyExists(StoreError):
    """A create-only write found an existing object."""


class Changed(StoreError):
    """A conditional write or read found another version of the object than the expected one."""


class BadKey(StoreError):
    """An invalid key, refused without a request to the bucket."""


class BadDigest(StoreError):
    """The received bytes do not have the expected digest; nothing was stored."""


class AccessDenied(StoreError):
    """The bucket refuses these credentials, or this user."""


class StoreUnavailable(StoreError):
    """The bucket cannot be reached, or failed in a way that leaves its contents unknown."""


@dataclass(frozen=True)
class ObjectInfo:
    """The metadata of an object."""

    key: str
    size: int  # bytes
    etag: str  # opaque; equal for equal versions
    modified: datetime  # UTC
    sha256: Optional[str] = None  # hex, if the bucket stores it
    md5: Optional[str] = None  # hex, if the bucket's ETags are known to be MD5s

    def holds(self, body: Body) -> Optional[bool]:
        """Whether the object has the content `body`; None if its digest is not stored."""
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
    """Content to store: bytes, or a file to stream, with its digest."""

    source: Union[bytes, Path]
    sha256: str  # hex
    size: int  # bytes

    @functools.cached_property
    def md5(self) -> str:
        """Hex; for stores without sha256. It protects against accidents only."""
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
        """A file, hashed now; if it changes before it is sent, storing it fails."""
        with path.open("rb") as stream:
            return cls(path, sha256_of(stream), path.stat().st_size)


class Reading(Iterator[bytes]):
    """A stream of an object's bytes, at most READ_CHUNK at a time.

    Keeps a file or a connection open until its end, an error, or `close`.
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
        """Closes the stream; can be called at any time, and repeatedly."""
        self._close()


class Store(Protocol):
    """A bucket. Each method is one request, except `list`, `scan` and `folders`, which paginate.

    Keys are validated by `ci.store.keys.check`. All methods raise AccessDenied and
    StoreUnavailable; further errors are in their docstrings.
    """

    @property
    def name(self) -> str:
        """The bucket as it is written in commands."""

    def aliases(self, key: str) -> tuple[str, ...]:
        """Other keys under which the object must be stored too, so that its URLs work."""

    def get(self, key: str) -> Object:
        """The object, whole, with its ETag. Raises NotFound."""

    def head(self, key: str) -> ObjectInfo:
        """The object's metadata. Raises NotFound."""

    def read(self, entry: ObjectInfo, start: int = 0, stop: Optional[int] = None) -> Reading:
        """Bytes [start, stop) of exactly the version in `entry` (If-Match).

        Raises NotFound or Changed before it yields a byte.
        """

    def create(self, key: str, body: Body) -> str:
        """Stores a new object and returns its ETag. Raises AlreadyExists, BadDigest."""

    def replace(self, key: str, body: Body, etag: str) -> str:
        """Replaces the version `etag` and returns the new ETag. Raises Changed, BadDigest."""

    def copy(self, source: str, target: str, etag: Optional[str]) -> None:
        """Copies within the bucket: replaces the version `etag` of target, or creates it if None.

        Raises NotFound (no source) and Changed (target has another version).
        """

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """The objects whose keys begin with `prefix`, in order, without aliases.

        What others have put there under invalid keys is left out, as by `scan`. The ETags may be
        empty where they would have to be computed.
        """

    def scan(self, prefix: str) -> Iterator[ObjectInfo]:
        """The objects whose addresses begin with `prefix`, aliases too, with their ETags.

        `key` is the address of each. Used before writing to them.
        """

    def folders(self) -> Iterator[str]:
        """The first path segments of all keys that have more than one, in order."""

    def delete(self, key: str) -> None:
        """Removes the object; not an error if it does not exist."""


def sha256_of(stream: BinaryIO) -> str:
    """The hex digest of the rest of a binary stream."""
    digest = hashlib.sha256()
    for chunk in iter(lambda: stream.read(CHUNK), b""):
        digest.update(chunk)
    return digest.hexdigest()
