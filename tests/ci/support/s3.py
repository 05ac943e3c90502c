"""An S3 endpoint on loopback: moto, behind a shim for what S3's REST endpoint does and moto not.

* A raw `+` in a path is a space.
* One request is carried out at a time, so a condition and its write are one step.
* A missing key is 403, not 404, for everybody if the bucket's policy lets nobody list it.
* A body is compared with the sha256 and the MD5 that came with it.
* CopyObject honours If-Match and If-None-Match of its target.

The shim can also let requests fail: before they are carried out, after (the answer is lost), or
in the middle of a body.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, unquote_to_bytes

from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID
from moto.server import create_backend_app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

Environ = dict[str, Any]
WsgiApp = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

ERROR = (
    '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{0}</Code><Message>{0}</Message></Error>'
)


class HungUp(ConnectionError):
    """The connection is closed without another word."""


class Endpoint:
    """The WSGI application, and what a test wants to see of it.

    requests: (method, raw path) of everything that was asked, in order; a listing is LIST and its
    prefix, a copy COPY and its target.
    fault: called with each request and a function that carries it out; what it returns is the
    answer. It may carry the request out or not, and raise HungUp.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.sent = 0  # bytes of the bodies that came in
        self.received = 0  # bytes of the bodies that went out
        self.fault: Callable[[Environ, Callable[[], Answer]], Answer] | None = None
        self.url = ""
        self._moto: WsgiApp = create_backend_app("s3")
        self._one_at_a_time = threading.RLock()

    def __call__(self, environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        with self._one_at_a_time:
            raw = environ["RAW_URI"].replace("+", "%20")
            path = raw.partition("?")[0]
            environ["RAW_URI"] = environ["REQUEST_URI"] = raw
            environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1")
            self.requests.append(_named(environ, path))
            try:
                status, headers, content = self._answer(environ)
            except HungUp:
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
                raise
            self.received += len(content)
            start(status, headers)
            return [content]

    def _answer(self, environ: Environ) -> Answer:
        if self.fault is None:
            return self._carry_out(environ)
        return self.fault(environ, lambda: self._carry_out(environ))

    def _carry_out(self, environ: Environ) -> Answer:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        self.sent += len(body)
        if len(body) != length:
            return error(400, "IncompleteBody")
        refusal = self._refusal(environ, body)
        if refusal is not None:
            return refusal
        environ["wsgi.input"] = io.BytesIO(body)
        answer: list[Any] = []
        content = b"".join(self._moto(environ, lambda *args: answer.extend(args[:2])))
        if answer[0].startswith("404") and not self._tells_what_is_missing(environ):
            return error(403, "AccessDenied")
        return answer[0], answer[1], content

    def _tells_what_is_missing(self, environ: Environ) -> bool:
        """Whether the sender may list the bucket: with credentials, or by the bucket's policy."""
        bucket = self._bucket(environ)
        if "HTTP_AUTHORIZATION" in environ or bucket is None or bucket.policy is None:
            return True
        statements = json.loads(bucket.policy)["Statement"]
        return any(statement["Action"] == "s3:ListBucket" for statement in statements)

    def _refusal(self, environ: Environ, body: bytes) -> Answer | None:
        announced = environ.get("HTTP_X_AMZ_CHECKSUM_SHA256")
        if announced and base64.b64decode(announced) != hashlib.sha256(body).digest():
            return error(400, "BadDigest")
        md5 = environ.get("HTTP_CONTENT_MD5")
        if md5 and base64.b64decode(md5) != hashlib.md5(body).digest():
            return error(400, "BadDigest")
        if environ["REQUEST_METHOD"] == "PUT" and "HTTP_X_AMZ_COPY_SOURCE" in environ:
            found = self._etag(environ)
            expected = environ.get("HTTP_IF_MATCH")
            if expected and expected != found:
                return error(412, "PreconditionFailed")
            if environ.get("HTTP_IF_NONE_MATCH") == "*" and found:
                return error(412, "PreconditionFailed")
        return None

    def _etag(self, environ: Environ) -> str | None:
        """The ETag of what the request would replace, looked up inside of moto."""
        key = environ["PATH_INFO"].encode("latin-1").decode().split("/", 2)[2]
        found = self._bucket(environ).keys.get(key)
        return found.etag if found else None

    def _bucket(self, environ: Environ) -> Any:
        """Moto's bucket that a request names; None if there is none."""
        name = environ["PATH_INFO"].split("/", 2)[1]
        return get_backend("s3")[DEFAULT_ACCOUNT_ID]["aws"].buckets.get(name)


Answer = tuple[str, list[tuple[str, str]], bytes]


def _named(environ: Environ, path: str) -> tuple[str, str]:
    query = parse_qs(environ["RAW_URI"].partition("?")[2])
    if "list-type" in query:
        return "LIST", f"{path}/{''.join(query.get('prefix', []))}"
    return "COPY" if "HTTP_X_AMZ_COPY_SOURCE" in environ else environ["REQUEST_METHOD"], path


def error(status: int, code: str) -> Answer:
    body = ERROR.format(code).encode()
    return (
        f"{status} {code}",
        [
            ("Content-Type", "application/xml"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),  # the body of the request may be unread
        ],
        body,
    )


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *args: object) -> None:
        pass


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    """An endpoint that is served on a free loopback port while the block runs."""
    app = Endpoint()
    server: BaseWSGIServer = make_server(
        "127.0.0.1", 0, app, threaded=True, request_handler=_Handler
    )
    server.daemon_threads = True
    app.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield app
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
