"""The ASGI application: routes a path to its response. It only reads the bucket."""

from __future__ import annotations

import re
from typing import Optional
from urllib.parse import unquote_to_bytes

from packaging.utils import canonicalize_name
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from ci import names
from ci.scripts import published
from ci.serve import missing, negotiation
from ci.serve.content import answer
from ci.serve.preconditions import field
from ci.store import AccessDenied, BadKey, NotFound, Store, StoreUnavailable
from ci.store.keys import INDEX, canonical, check, headers, is_simple_index

_ABSOLUTE = re.compile(rb"^https?://[^/?#]*/?", re.IGNORECASE)

# The folder of a simple index, and a project in it: `whl/cu118/` + `torch`.
_PROJECT = re.compile(
    r"(?P<index>(?:whl/|whl/nightly/|nightly/|[0-9a-f]{40}/)cu[0-9]+/)"
    r"(?P<project>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)/?"
)


class Application:
    """An ASGI application that serves one bucket.

    upstream: the simple index to which requests for other projects are redirected.
    """

    def __init__(self, store: Store, upstream: Optional[str]) -> None:
        self._store = store
        self._upstream = upstream.rstrip("/") if upstream else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await run_in_threadpool(self.respond, Request(scope))
        await response(scope, receive, send)

    def respond(self, request: Request) -> Response:
        refusal = _refusal(request)
        if refusal is not None:
            return refusal
        try:
            return self._respond(request, path_of(request))
        except (AccessDenied, StoreUnavailable) as error:
            return missing.plain(502, f"the bucket cannot be read: {error.what}")

    def _respond(self, request: Request, path: str) -> Response:
        project = _PROJECT.fullmatch(path)
        if project and path.rpartition("/")[2] not in (INDEX, "index.json"):
            redirect = self._redirect(project["index"], project["project"], path)
            if redirect is not None:
                return redirect
        try:
            key = check(canonical(path) if path else INDEX)
            if path.endswith("/") and is_simple_index(key):
                return self._negotiate(request, key)
            if published.names_its_address(key.rpartition("/")[2]):
                return self._script(request, key)
            return answer(self._store, request, key)
        except BadKey:
            return missing.page(self._store, request, path)
        except NotFound:
            if not path.endswith("/") and self._is_folder(key):
                return RedirectResponse(f"/{key}/", 308)
            return missing.page(self._store, request, path)

    def _negotiate(self, request: Request, key: str) -> Response:
        chosen = negotiation.choose(field(request.headers, "accept"))
        if chosen is None:
            said = "this page is available as HTML and JSON; PEP 691 has their media types"
            return missing.plain(406, said, {"Vary": "Accept"})
        extra = {"Content-Type": chosen.content_type, "Vary": "Accept"}
        return answer(self._store, request, key[: -len(INDEX)] + chosen.name, extra)

    def _script(self, request: Request, key: str) -> Response:
        """A script or a lock file, with the requested address filled in."""
        host = request.headers.get("host", "")
        if not _PLAIN_HOST.fullmatch(host):
            return answer(self._store, request, key)
        script = published.at(f"{request.url.scheme}://{host}", self._store.get(key).body)
        about = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff", "Vary": "Host"}
        return Response(script, 200, about, headers(key).content_type)

    def _redirect(self, index: str, project: str, path: str) -> Optional[Response]:
        """Redirects to a project's normalized name, or to the upstream index."""
        normal = canonicalize_name(project)
        if normal == names.PROJECT:
            right = f"{index}{normal}/"
            return None if path == right else RedirectResponse(f"/{right}", 308)
        if self._upstream is None:
            return missing.plain(
                404,
                f"this index has only {names.PROJECT}, and no upstream index is set for "
                f"{normal}; the server's UPSTREAM_INDEX sets one",
            )
        return RedirectResponse(f"{self._upstream}/{normal}/", 302)

    def _is_folder(self, key: str) -> bool:
        try:
            self._store.head(f"{key}/{INDEX}")
        except NotFound:
            return False
        return True


# A host that is safe to insert into a script.
_PLAIN_HOST = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?")
_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
_LONGEST = 8000  # bytes of a request target: the minimum that RFC 9112, 3 recommends to support
# A host and port by RFC 3986; an IPv6 address is in brackets.
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?")


def _refusal(request: Request) -> Optional[Response]:
    """The response to a request that is invalid, whatever its path."""
    # Against request smuggling: two servers in a chain could read different lengths.
    if "transfer-encoding" in request.headers and "content-length" in request.headers:
        said = "a request has either Transfer-Encoding or Content-Length"
        return missing.plain(400, said, {"Connection": "close"})
    if not _HOST.fullmatch(request.headers.get("host", "")):
        return missing.plain(400, "the Host header is not a valid host", {"Connection": "close"})
    if len(request.scope.get("raw_path") or b"") > _LONGEST:
        return missing.plain(414, "the request target is too long", {"Connection": "close"})
    if request.method not in _METHODS:
        return missing.plain(501, f"the method {request.method[:20]} is not implemented")
    if request.method not in ("GET", "HEAD"):
        return missing.plain(405, "this server is read-only", {"Allow": "GET, HEAD"})
    return None


def path_of(request: Request) -> str:
    """The requested path, decoded once, without the leading slash.

    Taken from the raw bytes of the request: an encoded slash (`%2f`) is not a separator, and is
    kept encoded, so that it matches no key.
    """
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    if not raw.startswith(b"/"):  # absolute form, as sent to a proxy: RFC 9112, 3.2.2
        raw = _ABSOLUTE.sub(b"/", raw, count=1)
    parts = [unquote_to_bytes(part) for part in raw.split(b"?")[0].split(b"/")]
    if any(b"/" in part or b"\\" in part for part in parts):
        return raw.decode("latin-1").lstrip("/")
    return b"/".join(parts).decode("utf-8", "backslashreplace")[1:]
