"""Buckets for injected faults: many with the same initial state, and cheap to compare."""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID

from ci.store import FolderStore, Store
from ci.store.s3 import S3Store
from tests.ci.support.faults import Breaker, FolderBreaker, S3Breaker
from tests.ci.support.s3 import Endpoint

_numbers = itertools.count()


class Lab(Protocol):
    """A kind of bucket."""

    breaker: Breaker

    def copy(self, of: Store | None) -> Store:
        """A new bucket with the same objects, or an empty one."""

    def peek(self, store: Store) -> Callable[[str], bytes | None]:
        """Reads an object behind the store's back."""

    def dump(self, store: Store) -> dict[str, bytes]:
        """Every object at every address."""

    def drop(self, store: Store) -> None:
        """Removes the bucket."""


class FolderLab:
    """Buckets in folders."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.breaker: Breaker = FolderBreaker()

    def copy(self, of: Store | None) -> FolderStore:
        root = self._folder / f"{next(_numbers)}/bucket"
        if isinstance(of, FolderStore):
            shutil.copytree(of.root, root)
        return FolderStore(root, durable=False)

    def peek(self, store: Store) -> Callable[[str], bytes | None]:
        root = Path(store.name)
        return lambda key: (root / key).read_bytes() if (root / key).is_file() else None

    def dump(self, store: Store) -> dict[str, bytes]:
        root = Path(store.name)
        files = (path for path in root.rglob("*") if path.is_file())
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}

    def drop(self, store: Store) -> None:
        if (folder := Path(store.name).parent).exists():  # it is made by the first write
            shutil.rmtree(folder)


class S3Lab:
    """Buckets of one S3 endpoint, copied and compared inside of moto, without requests."""

    def __init__(self, endpoint: Endpoint, client: Any) -> None:
        self._client = client
        self._moto = get_backend("s3")[DEFAULT_ACCOUNT_ID]["aws"]
        self.breaker: Breaker = S3Breaker(endpoint)

    def copy(self, of: Store | None) -> S3Store:
        name = f"lab{next(_numbers)}"
        self._moto.create_bucket(name, "us-west-2")
        for key, found in list(self._bucket(of).keys.items()) if of else ():
            new = self._moto.put_object(name, key, found.value, checksum_value=found.checksum_value)
            new.checksum_algorithm = found.checksum_algorithm
        return S3Store(name, self._client)

    def peek(self, store: Store) -> Callable[[str], bytes | None]:
        keys = self._bucket(store).keys
        return lambda key: keys[key].value if key in keys else None

    def dump(self, store: Store) -> dict[str, bytes]:
        return {key: found.value for key, found in self._bucket(store).keys.items()}

    def drop(self, store: Store) -> None:
        del self._moto.buckets[store.name.partition("://")[2]]

    def writer(self, store: Store) -> Callable[[str, bytes], None]:
        """Writes objects behind the store's back, as the store would."""
        name = store.name.partition("://")[2]

        def write(key: str, body: bytes) -> None:
            checksum = base64.b64encode(hashlib.sha256(body).digest()).decode()
            new = self._moto.put_object(name, key, body, checksum_value=checksum)
            new.checksum_algorithm = "SHA256"

        return write

    def _bucket(self, store: Store) -> Any:
        return self._moto.buckets[store.name.partition("://")[2]]


@contextmanager
def memory_folder(fallback: Path) -> Iterator[Path]:
    """A folder in memory where there is one: thousands of buckets are made and removed."""
    memory = Path("/dev/shm")
    parent = memory if os.access(memory, os.W_OK) else fallback
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        yield Path(folder)
