"""Sending an object: conditional requests, ranges, and the headers of its key."""

from __future__ import annotations

import logging
from email.utils import format_datetime
from typing import Mapping, Optional

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ci.serve import preconditions
from ci.serve.preconditions import Validators, field
from ci.serve.ranges import part
from ci.store import Changed, ObjectInfo, Reading, Store, StoreError
from ci.store.keys import headers

# A mutable object may be replaced between looking and reading, but hardly again and again.
_ATTEMPTS = 5


def answer(
    store: Store, request: Request, key: str, extra: Optional[Mapping[str, str]] = None
) -> Response:
    """The object at `key`, or the part of it that was asked for. Raises NotFound.

    extra: headers beside, or instead of, those that the key has.
    """
    for _ in range(_ATTEMPTS):
        entry = store.head(key)
        try:
            return _answer(store, request, entry, extra or {})
        except Changed:
            continue
    return Response("this object is being changed; ask again", 503, {"Retry-After": "1"})


def _answer(
    store: Store, request: Request, entry: ObjectInfo, extra: Mapping[str, str]
) -> Response:
    answering = headers(entry.key)
    validators = Validators(_etag(entry), entry.modified)
    common = {
        "Content-Type": answering.content_type,
        "Cache-Control": answering.cache_control,
        "ETag": validators.etag,
        "Last-Modified": format_datetime(entry.modified, usegmt=True),
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
        **extra,
    }
    condition = validators.answer(request.headers)
    if condition is preconditions.Answer.FAILED:
        return Response("this is another version than the one asked for\n", 412, _about(common))
    if condition is preconditions.Answer.NOT_MODIFIED:
        return Response(status_code=304, headers=_about(common))
    wanted = part(_range(request, validators), entry.size)
    if wanted is None:
        outside = {**_about(common), "Content-Range": f"bytes */{entry.size}"}
        return Response(status_code=416, headers=outside)
    common["Content-Length"] = str(wanted.stop - wanted.start)
    if wanted.partial:
        common["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{entry.size}"
    status = 206 if wanted.partial else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=common)
    return _Sending(store.read(entry, wanted.start, wanted.stop), status, common)


class _Sending(StreamingResponse):
    """Sends an object, and lets go of it at the end, also where the client went away before."""

    def __init__(self, reading: Reading, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(reading, status, headers)
        self._reading = reading

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except StoreError as error:
            # The status is out, so all that is left is to break off: the server does on return.
            logging.getLogger("uvicorn.error").error("broke off %s: %s", scope["path"], error.what)
        finally:
            await run_in_threadpool(self._reading.close)


def _about(common: Mapping[str, str]) -> dict[str, str]:
    """The headers that describe the object where it is not sent itself."""
    return {name: value for name, value in common.items() if name != "Content-Type"}


def _etag(entry: ObjectInfo) -> str:
    """A strong ETag. S3's is taken as it is; a folder's is a digest, which needs quotes."""
    return entry.etag if entry.etag.startswith('"') else f'"{entry.etag}"'


def _range(request: Request, validators: Validators) -> Optional[str]:
    """The Range header, if it is to be heeded: of GET, and not meant for another version."""
    if request.method != "GET" or not validators.range_applies(request.headers):
        return None
    return field(request.headers, "range")
