"""Faults at one chosen storage call, and a reader that looks at every state in between."""

from __future__ import annotations

import contextlib
import io
import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from html import unescape
from typing import Any, NoReturn, Protocol
from urllib.parse import unquote

from ci.store import (
    AccessDenied,
    Body,
    NotFound,
    Object,
    ObjectInfo,
    Store,
    StoreError,
    StoreUnavailable,
)
from tests.ci.support.s3 import Answer, Endpoint, Environ, HungUp, error

POSITIONS = ("before", "after", "mid-body")
KINDS = ("crash", "timeout", "500", "403")


class Crash(BaseException):
    """The publisher is dead: it neither handles this nor does anything afterwards."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong at the call of that number, counted from 0.

    before: the call was not carried out. after: it was, and the answer was lost. mid-body: the
    body that is sent, or received, breaks off.
    """

    call: int
    position: str
    kind: str


class Breaker(Protocol):
    """How a kind of bucket is made to fail."""

    def break_call(
        self, store: Store, method: str, fault: Fault, call: Callable[[Store], Any]
    ) -> Any:
        """Carries `call` of `method` out on `store`, with the fault."""


class FolderBreaker:
    """The file system refuses, or answers late: as the errors that the store makes of these."""

    def break_call(
        self, store: Store, method: str, fault: Fault, call: Callable[[Store], Any]
    ) -> Any:
        if fault.position == "mid-body" and method in WITH_BODY:
            return call(_Interrupting(store, lambda: _fail(fault.kind)))
        if fault.position != "before":
            with contextlib.suppress(StoreError):  # that would have been the answer that is lost
                call(store)
        return _fail(fault.kind)


@dataclass
class S3Breaker:
    """The endpoint fails, once; botocore may try again. A crash is the client's."""

    endpoint: Endpoint

    def break_call(
        self, store: Store, method: str, fault: Fault, call: Callable[[Store], Any]
    ) -> Any:
        if fault.kind == "crash":
            return FolderBreaker().break_call(store, method, fault, call)
        left = [fault]

        def once(environ: Environ, carry_out: Callable[[], Answer]) -> Answer:
            return _answer_badly(left.pop(), environ, carry_out) if left else carry_out()

        self.endpoint.fault = once
        try:
            return call(store)
        finally:
            self.endpoint.fault = None


def _answer_badly(fault: Fault, environ: Environ, carry_out: Callable[[], Answer]) -> Answer:
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if fault.position == "mid-body" and length:
        environ["wsgi.input"].read(length // 2)
    elif fault.position == "mid-body" and environ["REQUEST_METHOD"] == "GET":
        status, headers, body = carry_out()
        if status.startswith("200"):
            return status, headers, body[: len(body) // 2]
    elif fault.position != "before":
        carry_out()
    if fault.kind == "timeout":
        raise HungUp
    return error(int(fault.kind), "AccessDenied" if fault.kind == "403" else "InternalError")


def _fail(kind: str) -> NoReturn:
    if kind == "crash":
        raise Crash
    if kind == "403":
        raise AccessDenied("injected: 403")
    raise StoreUnavailable(f"injected: {kind}")


class _Interrupting:
    """A store whose bodies break off half way."""

    def __init__(self, store: Store, fail: Callable[[], NoReturn]) -> None:
        self._store, self._fail = store, fail

    def create(self, key: str, body: Body) -> str:
        return self._store.create(key, self._broken(body))

    def replace(self, key: str, body: Body, etag: str) -> str:
        return self._store.replace(key, self._broken(body), etag)

    def get(self, key: str) -> Object:
        self._fail()

    def scan(self, prefix: str) -> Iterator[ObjectInfo]:
        entries = list(self._store.scan(prefix))
        yield from entries[: len(entries) // 2]
        self._fail()

    def _broken(self, body: Body) -> Body:
        data = body.source if isinstance(body.source, bytes) else body.source.read_bytes()
        half = data[: len(data) // 2]
        fail = self._fail

        class Source(io.BytesIO):
            def open(self, mode: str) -> io.BytesIO:
                return self

            def read(self, size: int | None = -1) -> bytes:
                if self.tell() == len(half):
                    fail()
                return super().read(size)

        return replace(body, source=Source(half))  # type: ignore[arg-type]


MUTATING = {"create", "replace", "copy", "delete"}
WITH_BODY = {"create", "replace", "get", "scan"}


@dataclass
class Probe:
    """A store that counts its calls, breaks at one of them, and is looked at after each write.

    calls: (method, key) of every call. peek: reads an object's bytes behind the store's back.
    """

    inner: Store
    breaker: Breaker
    reader: Reader
    fault: Fault | None = None
    calls: list[tuple[str, str]] = field(default_factory=list)
    dead: bool = False

    @property
    def name(self) -> str:
        return self.inner.name

    def aliases(self, key: str) -> tuple[str, ...]:
        return self.inner.aliases(key)

    def get(self, key: str) -> Object:
        return self._do("get", key, lambda store: store.get(key))

    def head(self, key: str) -> ObjectInfo:
        return self._do("head", key, lambda store: store.head(key))

    def read(self, entry: ObjectInfo, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        return self._do("read", entry.key, lambda store: store.read(entry, start, stop))

    def create(self, key: str, body: Body) -> str:
        return self._do("create", key, lambda store: store.create(key, body))

    def replace(self, key: str, body: Body, etag: str) -> str:
        return self._do("replace", key, lambda store: store.replace(key, body, etag))

    def copy(self, source: str, target: str, etag: str | None) -> None:
        self._do("copy", target, lambda store: store.copy(source, target, etag))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return iter(self._do("list", prefix, lambda store: list(store.list(prefix))))

    def scan(self, prefix: str) -> Iterator[ObjectInfo]:
        return iter(self._do("scan", prefix, lambda store: list(store.scan(prefix))))

    def folders(self) -> Iterator[str]:
        return self._do("folders", "", lambda store: store.folders())

    def delete(self, key: str) -> None:
        self._do("delete", key, lambda store: store.delete(key))

    def _do(self, method: str, key: str, call: Callable[[Store], Any]) -> Any:
        if self.dead:
            raise Crash
        number = len(self.calls)
        self.calls.append((method, key))
        try:
            if self.fault is not None and number == self.fault.call:
                return self.breaker.break_call(self.inner, method, self.fault, call)
            return call(self.inner)
        except Crash:
            self.dead = True
            raise
        finally:
            if method in MUTATING:
                self.reader.look(key)


@dataclass
class Reader:
    """Somebody who reads the bucket after every write, and whose links must always work.

    peek: the bytes of an object, or None. After a write only what it can have changed is looked
    at again: the page itself, and the pages that link to the file.
    """

    peek: Callable[[str], bytes | None]
    files: dict[str, str] = field(default_factory=dict)  # key → sha256
    links: dict[str, dict[str, str]] = field(default_factory=dict)  # page → file → sha256

    def look(self, key: str) -> None:
        body = self.peek(key)
        if body is None:
            self.files.pop(key, None)
            self.links.pop(key, None)
        else:
            self._look(key, body)
        for page, targets in self.links.items():
            for target, digest in targets.items():
                if self.files.get(target) != digest:
                    self.files[target] = _digest(self.peek(target), page, target)
                assert self.files[target] == digest, f"{page} links to another {target}"

    def _look(self, key: str, body: bytes) -> None:
        found = sha256(body).hexdigest()
        write_once = re.match(r"[0-9a-f]{40}/[^/]*(whl|metadata|manifest\.json)$", key)
        if write_once and key in self.files:
            assert self.files[key] == found, f"{key} changed"
        self.files[key] = found
        if key.endswith(("/", "html")):
            self.links[key] = dict(_links_of_html(key, body.decode()))


def _digest(body: bytes | None, page: str, target: str) -> str:
    assert body is not None, f"{page} links to {target}, which is not there"
    return sha256(body).hexdigest()


def _links_of_html(key: str, text: str) -> Iterator[tuple[str, str]]:
    """The files that a page links to, with the sha256 that it says they have."""
    folder = posixpath.dirname(key) if not key.endswith("/") else key
    for href, rest in re.findall(r'<a href="([^"#]*)#sha256=([0-9a-f]{64})"', text):
        yield posixpath.normpath(posixpath.join(folder, unquote(unescape(href)))), rest


__all__ = [
    "KINDS",
    "POSITIONS",
    "WITH_BODY",
    "Crash",
    "Fault",
    "FolderBreaker",
    "NotFound",
    "Probe",
    "Reader",
    "S3Breaker",
]
