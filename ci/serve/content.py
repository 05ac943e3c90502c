"""Sending an object: conditional requests, ranges, and the headers of its key."""

from __future__ import annotations

from email.utils import format_datetime, parsedate_to_datetime
from typing import Mapping, Optional

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ci.serve.ranges import part
from ci.store import Changed, Entry, Store
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


def _answer(store: Store, request: Request, entry: Entry, extra: Mapping[str, str]) -> Response:
    answering = headers(entry.key)
    etag = _etag(entry)
    common = {
        "Content-Type": answering.content_type,
        "Cache-Control": answering.cache_control,
        "ETag": etag,
        "Last-Modified": format_datetime(entry.modified, usegmt=True),
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
        **extra,
    }
    if _is_known(request, entry, etag):
        del common["Content-Type"]
        return Response(status_code=304, headers=common)
    wanted = part(_range_header(request, etag), entry.size)
    if wanted is None:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{entry.size}"})
    common["Content-Length"] = str(wanted.stop - wanted.start)
    if wanted.partial:
        common["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{entry.size}"
    status = 206 if wanted.partial else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=common)
    return StreamingResponse(store.read(entry, wanted.start, wanted.stop), status, common)


def _etag(entry: Entry) -> str:
    """A strong ETag. S3's is taken as it is; a folder's is a digest, which needs quotes."""
    return entry.etag if entry.etag.startswith('"') else f'"{entry.etag}"'


def _is_known(request: Request, entry: Entry, etag: str) -> bool:
    """Whether the client says that it has this version (RFC 9110, 13.1.2 and 13.1.3)."""
    tags = request.headers.get("if-none-match")
    if tags is not None:
        known = [tag.strip().removeprefix("W/") for tag in tags.split(",")]
        return "*" in known or etag in known
    since = request.headers.get("if-modified-since")
    if since is None:
        return False
    try:
        return entry.modified.replace(microsecond=0) <= parsedate_to_datetime(since)
    except (TypeError, ValueError):
        return False  # no date of HTTP's, so to be ignored


def _range_header(request: Request, etag: str) -> Optional[str]:
    """The Range header, unless If-Range says that it was meant for another version."""
    if request.headers.get("if-range", etag) != etag:
        return None
    return request.headers.get("range")
