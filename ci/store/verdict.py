"""Probes the capabilities of an S3-compatible store before anything is written to it.

Publishing depends on two preconditions: `If-None-Match: *` creates and never replaces, and
`If-Match` replaces only the version that was seen. A store that ignores one of them reports
success, and loses another publisher's writes. So each is tried once, on separate objects, and the
result is recorded in the bucket.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Callable, Optional, Protocol

from ci.index.fields import Sha256
from ci.store.base import (
    AccessDenied,
    AlreadyExists,
    BadDigest,
    Body,
    Changed,
    Object,
    StoreError,
    StoreUnavailable,
)

# Objects of the store itself; no key of the bucket begins with a dot.
OWN = ".store/"
KEY = f"{OWN}verdict.json"

_A, _B = Body.of(b"created by the probe\n"), Body.of(b"replaced by the probe\n")
_ADVICE = "use a store that implements conditional writes: docs/publishing.md lists some"
_NO_ETAG = '"00000000000000000000000000000000"'


class Untrusted(StoreError):
    """The store ignores a precondition that publishing needs; only the probe was written."""


@dataclass(frozen=True)
class Verdict:
    """The capabilities of a store that honours preconditions."""

    bare_etags: bool  # If-Match on PutObject requires an ETag without quotes
    checks_sha256: bool  # verifies x-amz-checksum-sha256; otherwise Content-MD5
    etag_is_md5: bool
    conditional_copy: bool  # honours both preconditions on CopyObject

    def if_match(self, etag: str) -> str:
        return etag.strip('"') if self.bare_etags else etag


@dataclass(frozen=True)
class Verdicts:
    """sha256 of an endpoint's URL → verdict, for every endpoint used to write to the bucket."""

    endpoints: Mapping[Sha256, Verdict] = field(default_factory=dict)


def endpoint_digest(url: str) -> str:
    """A hash of the endpoint, because the record is public."""
    return hashlib.sha256(url.encode()).hexdigest()


class Requests(Protocol):
    """The requests of a probe; they raise the same errors as `Store`."""

    name: str

    def get(self, key: str) -> Object:
        """GetObject."""

    def put(
        self,
        key: str,
        body: Body,
        *,
        if_match: Optional[str] = None,
        sha256: Optional[str] = None,
        md5: Optional[bytes] = None,
    ) -> str:
        """PutObject; returns the new ETag. if_match: an ETag as sent; None: create only."""

    def copy(self, source: str, target: str, if_match: Optional[str]) -> None:
        """CopyObject."""

    def delete(self, key: str) -> None:
        """DeleteObject."""


def probe(requests: Requests) -> Verdict:
    """Tries every precondition. Raises Untrusted with the one that the store ignores.

    A response may be lost, and botocore repeats a request that succeeded. So a refusal counts only
    if it is expected, or if the object's content confirms it.
    """
    folder = f"{OWN}probe/{uuid.uuid4().hex}"
    one, other, third = (f"{folder}/{name}" for name in ("one", "other", "third"))
    try:
        _create(requests, one)
        _check_create(requests, one)
        bare_etags = _check_replace(requests, one)
        return Verdict(
            bare_etags,
            _checks_sha256(requests, other, third),
            requests.get(one).etag.strip('"') == _B.md5,
            _copies_conditionally(requests, one, other),
        )
    finally:
        # A publisher without permission to delete leaves three small objects.
        with contextlib.suppress(AccessDenied, StoreUnavailable):
            for key in (one, other, third):
                requests.delete(key)


def _create(requests: Requests, key: str) -> None:
    with contextlib.suppress(AlreadyExists):  # a response was lost
        requests.put(key, _A)


def _check_create(requests: Requests, key: str) -> None:
    if not _refused(lambda: requests.put(key, _B), AlreadyExists):
        raise _untrusted(requests, "If-None-Match", "the same key was created twice")


def _check_replace(requests: Requests, key: str) -> bool:
    """Whether ETags must be sent without quotes."""
    for wrong in (_NO_ETAG, _NO_ETAG.strip('"')):
        if not _refused(functools.partial(requests.put, key, _B, if_match=wrong), Changed):
            raise _untrusted(
                requests, "If-Match", "a version other than the named one was replaced"
            )
    etag = requests.get(key).etag
    for sent in (etag, etag.strip('"')):
        attempt = functools.partial(requests.put, key, _B, if_match=sent)
        if not _refused(attempt, Changed) or requests.get(key).body == _B.source:
            return sent != etag
    raise Untrusted(
        f"{requests.name} refuses If-Match with the right ETag, too",
        means="records and pages could be created, but never updated",
        do=_ADVICE,
    )


def _checks_sha256(requests: Requests, one: str, other: str) -> bool:
    """Whether the store verifies sha256; raises Untrusted if it verifies no digest."""
    if _refused(lambda: requests.put(one, _A, sha256=_B.sha256), BadDigest):
        _create(requests, one)
        return True
    # The object was stored although its digest was wrong.
    if not _refused(lambda: requests.put(other, _A, md5=bytes.fromhex(_B.md5)), BadDigest):
        raise _untrusted(
            requests,
            "x-amz-checksum-sha256 and Content-MD5",
            "a body with a wrong digest was stored",
        )
    return False


def _copies_conditionally(requests: Requests, one: str, other: str) -> bool:
    return _refused(lambda: requests.copy(one, other, None), Changed) and _refused(
        lambda: requests.copy(one, other, _NO_ETAG), Changed
    )


def _refused(attempt: Callable[[], object], refusal: type[StoreError]) -> bool:
    try:
        attempt()
    except refusal:
        return True
    except AlreadyExists:  # succeeded, then repeated by botocore
        return False
    return False


def _untrusted(requests: Requests, ignored: str, seen: str) -> Untrusted:
    return Untrusted(
        f"{requests.name} ignores {ignored}: {seen}",
        means="with two publishers at once, one would silently overwrite the other's changes",
        do=_ADVICE,
    )
