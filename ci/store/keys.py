"""Keys of the bucket: which are valid, their other addresses, and their response headers.

Pure functions: the S3 store stores these headers with objects, and `ci serve` sends the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ci.store.base import BadKey

INDEX = "index.html"

# One path segment. No leading dot, so neither `..` nor a hidden file; no character that needs
# encoding, so a key is the same text in a URL, on disk and in S3 (except `+`, see `s3_aliases`).
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_LONGEST = 900  # bytes; S3 allows 1024, and a file name 255
# The folder of a commit, and in it the folder of a library's debug symbols.
_DOCS = re.compile(r"[0-9a-f]{40}/docs/")
_WRITE_ONCE = re.compile(r"[0-9a-f]{40}(?:/buildid/[0-9a-f]{40})?")

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".ttf": "font/ttf",
    ".xml": "application/atom+xml; charset=utf-8",
    ".metadata": "text/plain; charset=utf-8",
    ".jsonl": "application/jsonl",
    ".txt": "text/plain; charset=utf-8",
    ".py": "text/x-python; charset=utf-8",
    ".toml": "application/toml",
}
SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"
SIMPLE_HTML = "application/vnd.pypi.simple.v1+html"

IMMUTABLE = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"


@dataclass(frozen=True)
class Headers:
    """The response headers of an object."""

    content_type: str
    cache_control: str


def is_valid(key: str) -> bool:
    """Whether an object may have this key; others in a bucket are not ours."""
    segments = key.split("/")
    return (
        len(key) <= _LONGEST
        and all(len(segment) <= 255 for segment in segments)
        and all(_SEGMENT.fullmatch(segment) for segment in segments)
    )


def check(key: str) -> str:
    """Returns `key` if it is valid; raises BadKey for anything that could reach another place."""
    if is_valid(key):
        return key
    raise BadKey(
        f"{key!r} is not a valid key",
        means="keys consist of letters, digits and . _ + - / without empty or hidden segments",
    )


def canonical(key: str) -> str:
    """The key for a decoded address: a space was a `+`, a folder means its index page."""
    key = key.replace(" ", "+")
    return key + INDEX if key.endswith("/") else key


def s3_aliases(key: str) -> tuple[str, ...]:
    """The keys where S3's REST endpoint looks for `key` if a client sends a raw `+` or a folder.

    It decodes a raw `+` to a space, and has no index documents.
    """
    if key.endswith("/" + INDEX):
        return (key[: -len(INDEX)],)
    return (key.replace("+", " "),) if "+" in key else ()


def is_simple_index(key: str) -> bool:
    """Whether `key` is a page of a simple index (``…/cu118/index.json``, ``…/cu118/vllm/…``)."""
    return bool(re.search(r"(?:^|/)cu[0-9]+/(?:[a-z0-9-]+/)?index\.(?:html|json)$", key))


def headers(key: str) -> Headers:
    suffix = key[key.rfind(".") :] if "." in key else ""
    content_type = _TYPES.get(suffix, "application/octet-stream")
    if suffix == ".json" and is_simple_index(key):
        content_type = SIMPLE_JSON
    return Headers(content_type, IMMUTABLE if _is_immutable(key) else REVALIDATE)


def _is_immutable(key: str) -> bool:
    """Whether an object never changes: files and manifests, but not pages and records."""
    folder, _, name = key.rpartition("/")
    if _DOCS.match(key):
        return True  # also its index pages
    write_once = _WRITE_ONCE.fullmatch(folder) or folder.startswith("releases/download/")
    return bool(write_once) and name not in (INDEX, "status.json")
