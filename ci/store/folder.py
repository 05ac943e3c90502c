"""A bucket in a folder, with the semantics of S3. It is the default.

Everything in the folder is served, so the lock and unfinished files are in a sibling folder
(``.NAME.work``, on the same file system: files are written there, then linked or renamed). An
object is created by `os.link`, which fails if the name exists. It is replaced under a `flock`: its
ETag is compared, then `os.replace`. Symbolic links are neither followed nor served.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO, Iterator, Optional, cast

from ci.store.base import (
    CHUNK,
    READ_CHUNK,
    AlreadyExists,
    Body,
    Changed,
    NotFound,
    Object,
    ObjectInfo,
    Reading,
    sha256_of,
)
from ci.store.folder_errors import errors
from ci.store.folder_work import WorkFolder
from ci.store.keys import canonical, check, is_valid

# Digests of larger files are cached by (inode, time, size). Smaller ones are always computed: two
# versions of a record written within one clock tick may agree in all three.
_REMEMBERED_FROM = 1 << 20

# O_NONBLOCK, because opening a FIFO would wait for a writer.
_TO_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


class FolderStore:
    """A folder as a bucket.

    root: created at the first write.
    durable: fsync after each write; off only for a bucket that may be lost.
    work: unfinished files and the lock, beside `root`.
    """

    def __init__(self, root: Path, *, durable: bool = True) -> None:
        self.root = root.resolve()
        folder = self.root.parent / f".{self.root.name}.work"
        self._durable = durable
        self.work = WorkFolder(folder, self.name, durable=durable)
        self._digests: dict[tuple[int, int, int, int], str] = {}

    @property
    def name(self) -> str:
        return str(self.root)

    def aliases(self, key: str) -> tuple[str, ...]:
        return ()  # `_parts` maps the other addresses

    def get(self, key: str) -> Object:
        with self._open(key) as stream:
            body = stream.read()
        return Object(body, hashlib.sha256(body).hexdigest())

    def head(self, key: str) -> ObjectInfo:
        with self._open(key) as stream:
            return self._describe(key, stream)

    def read(self, entry: ObjectInfo, start: int = 0, stop: Optional[int] = None) -> Reading:
        stream = self._open(entry.key)
        if self._describe(entry.key, stream).etag != entry.etag:
            stream.close()
            raise _changed(entry.key)
        stop = entry.size if stop is None else stop
        return Reading(_chunks(stream, start, stop), stream.close)

    def create(self, key: str, body: Body) -> str:
        doing = f"create {key}"
        with (
            self.work.written(body) as temporary,
            self.work.lock(),
            errors(doing, self.name),
            self._folder_of(key, create=True) as (folder, name),
        ):
            try:
                os.link(temporary, name, dst_dir_fd=folder)
            except FileExistsError:
                raise AlreadyExists(f"{key} exists already in {self.name}") from None
            self._settle(folder)
        return body.sha256

    def replace(self, key: str, body: Body, etag: str) -> str:
        with (
            self.work.written(body) as temporary,
            self.work.lock(),
            errors(f"replace {key}", self.name),
        ):
            self._require(key, etag)
            self._move(temporary, key)
        return body.sha256

    def copy(self, source: str, target: str, etag: Optional[str]) -> None:
        with self._open(source) as stream:
            path = self.work.temporary(iter(lambda: stream.read(CHUNK), b""))
        try:
            with self.work.lock(), errors(f"copy {source} to {target}", self.name):
                self._require(target, etag)
                self._move(path, target)
        finally:
            path.unlink(missing_ok=True)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        folder, _, _ = prefix.rpartition("/")
        for path in self._walk(self.root / folder):
            key = path.relative_to(self.root).as_posix()
            if key.startswith(prefix) and is_valid(key):
                # A file may be deleted during the walk, and is then left out.
                with contextlib.suppress(FileNotFoundError):
                    status = path.lstat()
                    yield ObjectInfo(key, status.st_size, "", _modified(status))

    def scan(self, prefix: str) -> Iterator[ObjectInfo]:
        for entry in self.list(prefix):
            with contextlib.suppress(NotFound):
                yield self.head(entry.key)

    def folders(self) -> Iterator[str]:
        return iter(sorted(entry.name for entry in self._scan(self.root) if _is_folder(entry)))

    def delete(self, key: str) -> None:
        with self.work.lock(), errors(f"delete {key}", self.name):
            try:
                with self._folder_of(key) as (folder, name):
                    os.unlink(name, dir_fd=folder)
                    self._settle(folder)
            except FileNotFoundError:
                return
            for parent in self.root.joinpath(*_parts(key)).parents:
                if parent == self.root:
                    break
                try:
                    parent.rmdir()
                except OSError:
                    break  # not empty, so neither are its parents

    def _describe(self, key: str, stream: BinaryIO) -> ObjectInfo:
        status = os.fstat(stream.fileno())
        version = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
        digest = self._digests.get(version)
        if digest is None:
            digest = sha256_of(stream)
            if status.st_size >= _REMEMBERED_FROM:
                self._digests[version] = digest
        return ObjectInfo(canonical(key), status.st_size, digest, _modified(status), digest)

    def _require(self, key: str, etag: Optional[str]) -> None:
        """Raises Changed unless `key` has the version `etag` (None: absent). Requires the lock."""
        try:
            found: Optional[str] = self.head(key).etag
        except NotFound:
            found = None
        if found != etag:
            raise _changed(key)

    def _open(self, key: str) -> BinaryIO:
        with errors(f"read {key}", self.name):
            try:
                with self._folder_of(key) as (folder, name):
                    descriptor = os.open(name, _TO_READ, dir_fd=folder)
            except (FileNotFoundError, NotADirectoryError):
                raise NotFound(f"no {key} in {self.name}") from None
            except OSError as error:
                if error.errno == errno.ENXIO:  # a socket
                    raise NotFound(f"no {key} in {self.name}") from None
                raise
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise NotFound(f"no {key} in {self.name}")
            return cast(BinaryIO, os.fdopen(descriptor, "rb"))

    @contextlib.contextmanager
    def _folder_of(self, key: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
        """A descriptor of the folder of `key`, opened without following symbolic links."""
        *folders, name = _parts(key)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        if create and not self.root.is_dir():
            self.root.parent.mkdir(parents=True, exist_ok=True)
            above = os.open(self.root.parent, flags)
            try:
                self._make_folder(self.root.name, above)
            finally:
                os.close(above)
        current = os.open(self.root, flags)
        try:
            for folder in folders:
                if create:
                    self._make_folder(folder, current)
                deeper = os.open(folder, flags, dir_fd=current)
                os.close(current)
                current = deeper
            yield current, name
        finally:
            os.close(current)

    def _make_folder(self, name: str, above: int) -> None:
        """Makes a folder unless it exists, as durable and as readable as the files in it."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=above)
            # Whatever the umask: a web server may be another user. Nobody gains write permission.
            mode = os.stat(name, dir_fd=above, follow_symlinks=False).st_mode
            os.chmod(name, stat.S_IMODE(mode) | 0o555, dir_fd=above)
            self._settle(above)

    def _move(self, temporary: Path, key: str) -> None:
        with self._folder_of(key, create=True) as (folder, name):
            os.replace(temporary, name, dst_dir_fd=folder)
            self._settle(folder)

    def _settle(self, folder: int) -> None:
        if self._durable:
            os.fsync(folder)

    def _walk(self, folder: Path) -> Iterator[Path]:
        # In the order of keys, as in S3: `a+b` before `a/b`.
        entries = self._scan(folder)
        for entry in sorted(entries, key=lambda entry: entry.name + "/" * _is_folder(entry)):
            if _is_folder(entry):
                yield from self._walk(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                yield Path(entry.path)

    def _scan(self, folder: Path) -> tuple[os.DirEntry[str], ...]:
        with errors("list", self.name):
            try:
                return tuple(os.scandir(folder))
            except (FileNotFoundError, NotADirectoryError):
                return ()


def _parts(key: str) -> list[str]:
    return check(canonical(key)).split("/")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _modified(status: os.stat_result) -> datetime:
    return datetime.fromtimestamp(int(status.st_mtime), timezone.utc)


def _chunks(stream: BinaryIO, start: int, stop: int) -> Iterator[bytes]:
    stream.seek(start)
    while start < stop and (chunk := stream.read(min(READ_CHUNK, stop - start))):
        start += len(chunk)
        yield chunk


def _changed(key: str) -> Changed:
    return Changed(f"{key} was changed by another publisher meanwhile")
