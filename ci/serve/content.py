"""Sends an object, with conditional requests, ranges and the headers of its key."""

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

# A mutable object may be replaced between looking and reading; then it is tried again.
_ATTEMPTS = 5


def answer(
    store: Store, request: Request, key: str, extra: Optional[Mapping[str, str]] = None
) -> Response:
    """The response for the object at `key`, or for the requested range. Raises NotFound.

    extra: headers in addition to those of the key; they take precedence.
    """
    for _ in range(_ATTEMPTS):
        entry = store.head(key)
        try:
            return _answer(store, request, entry, extra or {})
        except Changed:
            continue
    return Response("this object is being replaced; try again", 503, {"Retry-After": "1"})


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
        return Response(
            "the object's current version does not meet the precondition\n", 412, _about(common)
        )
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
    """Streams an object and closes it at the end, also if the client disconnects."""

    def __init__(self, reading: Reading, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(reading, status, headers)
        self._reading = reading

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except StoreError as error:
            # The status is sent, so only the connection can be closed: the server does so on
            # return.
            logging.getLogger("uvicorn.error").error("aborted %s: %s", scope["path"], error.what)
        finally:
            await run_in_threadpool(self._reading.close)


def _about(common: Mapping[str, str]) -> dict[str, str]:
    """The headers of a response about the object without its content."""
    return {name: value for name, value in common.items() if name != "Content-Type"}


def _etag(entry: ObjectInfo) -> str:
    """A strong ETag: S3's own, or a folder's digest in quotes."""
    return entry.etag if entry.etag.startswith('"') else f'"{entry.etag}"'


def _range(request: Request, validators: Validators) -> Optional[str]:
    """The Range header, if it applies: to GET, unless If-Range names another version."""
    if request.method != "GET" or not validators.range_applies(request.headers):
        return None
    return field(request.headers, "range")
