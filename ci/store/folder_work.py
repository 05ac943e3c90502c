"""The folder beside a bucket, which is not served: unfinished files, and the lock of writers."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import Iterator, Optional

from ci.store.base import CHUNK, BadDigest, Body
from ci.store.folder_errors import errors

ABANDONED = 24 * 3600  # seconds since the last write to an unfinished file


class WorkFolder:
    """``.NAME.work`` of the bucket NAME, on the same file system.

    path: created at the first write.
    bucket: names the bucket in errors.
    """

    def __init__(self, path: Path, bucket: str, *, durable: bool) -> None:
        self.path = path
        self._bucket = bucket
        self._durable = durable
        self._swept = False

    @contextlib.contextmanager
    def written(self, body: Body) -> Iterator[Path]:
        """The body as a verified temporary file, which is always removed at the end."""
        # Opened outside `errors`: an unreadable input is not an error of the bucket.
        if isinstance(body.source, bytes):
            path = self.temporary(iter((body.source,)), body.sha256)
        else:
            with body.source.open("rb") as stream:
                path = self.temporary(iter(lambda: stream.read(CHUNK), b""), body.sha256)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def temporary(self, chunks: Iterator[bytes], sha256: Optional[str] = None) -> Path:
        """A file of these bytes, which the caller moves or removes. Raises BadDigest."""
        with errors("write", self._bucket):
            self.path.mkdir(parents=True, exist_ok=True)
            self._sweep()
            descriptor, name = tempfile.mkstemp(dir=self.path)
            path = Path(name)
            try:
                digest = hashlib.sha256()
                with os.fdopen(descriptor, "wb") as stream:
                    for chunk in chunks:
                        digest.update(chunk)
                        stream.write(chunk)
                    stream.flush()
                    os.fchmod(stream.fileno(), 0o644)
                    if self._durable:
                        os.fsync(stream.fileno())
                if sha256 not in (None, digest.hexdigest()):
                    raise BadDigest(
                        f"the bytes to store have sha256 {digest.hexdigest()}, not {sha256}",
                        means="the file was changed after it was hashed",
                        do="build again, then publish again",
                    )
            except BaseException:
                path.unlink()
                raise
            return path

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Waits for other writers of the bucket, in any process."""
        with errors("lock", self._bucket):
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            os.close(descriptor)  # releases the lock

    def _sweep(self) -> None:
        """Removes what killed writers have left, once; a write takes no day."""
        if self._swept:
            return
        self._swept = True
        for entry in tuple(os.scandir(self.path)):
            with contextlib.suppress(FileNotFoundError):  # another process removes them, too
                old = time.time() - entry.stat(follow_symlinks=False).st_mtime > ABANDONED
                if old and entry.name != "lock":
                    Path(entry.path).unlink()
