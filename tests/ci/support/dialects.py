"""S3 as other storages speak it: put before moto, as an endpoint's `fault`."""

from __future__ import annotations

from collections.abc import Callable

from tests.ci.support.s3 import Answer, Environ, error

Dialect = Callable[[Environ, Callable[[], Answer]], Answer]


def ignoring(*headers: str, copies: bool = True, puts: bool = True) -> Dialect:
    """A storage that does as if these request headers were not there."""

    def dialect(environ: Environ, carry_out: Callable[[], Answer]) -> Answer:
        is_copy = "HTTP_X_AMZ_COPY_SOURCE" in environ
        if environ["REQUEST_METHOD"] == "PUT" and (copies if is_copy else puts):
            for header in headers:
                environ.pop("HTTP_" + header.upper().replace("-", "_"), None)
        return carry_out()

    return dialect


_CONDITIONS = ("If-Match", "If-None-Match")
_SHA256 = ("x-amz-checksum-sha256", "x-amz-checksum-algorithm", "x-amz-sdk-checksum-algorithm")


def radosgw(environ: Environ, carry_out: Callable[[], Answer]) -> Answer:
    """Ceph's radosgw 16: bare ETags, MD5 only, no conditions on copies."""
    if environ["REQUEST_METHOD"] == "PUT" and "HTTP_X_AMZ_COPY_SOURCE" not in environ:
        etag = environ.get("HTTP_IF_MATCH")
        if etag and etag.startswith('"'):
            environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            return error(412, "PreconditionFailed")
        if etag:
            environ["HTTP_IF_MATCH"] = f'"{etag}"'
        return ignoring(*_SHA256)(environ, carry_out)
    return ignoring(*_SHA256, *_CONDITIONS)(environ, carry_out)


def opaque_etags(environ: Environ, carry_out: Callable[[], Answer]) -> Answer:
    """Objects encrypted by KMS: their ETags look like an MD5 and are none."""
    for name in ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"):
        if environ.get(name, "*") != "*":
            environ[name] = _turned(environ[name])
    status, headers, body = carry_out()
    found = [(name, _turned(value) if name.lower() == "etag" else value) for name, value in headers]
    if b"<ETag>" in body:
        head, *rest = body.split(b"<ETag>")
        body = b"<ETag>".join([head, *(_turned_element(part) for part in rest)])
        found = [(n, str(len(body)) if n.lower() == "content-length" else v) for n, v in found]
    return status, found, body


def _turned(etag: str) -> str:
    quote = '"' if etag.startswith('"') else ""
    return f"{quote}{etag.strip(quote or None)[::-1]}{quote}"


def _turned_element(part: bytes) -> bytes:
    etag, end, rest = part.partition(b"</ETag>")
    plain = etag.replace(b"&quot;", b'"').decode()
    return _turned(plain).replace('"', "&quot;").encode() + end + rest
