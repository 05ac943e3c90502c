"""What an S3-compatible store makes of the protocol, found out before anything is written to it.

Publishing stands on two conditions: `If-None-Match: *` creates and never replaces, and `If-Match`
replaces only the version that was seen. A store that ignores one of them answers as if nothing
were wrong, and loses what another publisher wrote. So each is tried once, on an object of its
own, and what was found is recorded in the bucket.
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

# What belongs to the store itself; no key of the bucket begins with a dot.
OWN = ".store/"
KEY = f"{OWN}verdict.json"

_A, _B = Body.of(b"created by the probe\n"), Body.of(b"replaced by the probe\n")
_ADVICE = "use a store that implements conditional writes: docs/publishing.md lists some"
_NO_ETAG = '"00000000000000000000000000000000"'


class Untrusted(StoreError):
    """The store ignores what publishing stands on; nothing was written but the probe."""


@dataclass(frozen=True)
class Verdict:
    """How to talk to a store that can be trusted."""

    bare_etags: bool  # If-Match on PutObject takes an ETag without its quotes only
    checks_sha256: bool  # refuses a body that has not the announced sha256; else: MD5
    etag_is_md5: bool
    conditional_copy: bool  # honours both conditions on CopyObject too

    def if_match(self, etag: str) -> str:
        return etag.strip('"') if self.bare_etags else etag


@dataclass(frozen=True)
class Verdicts:
    """The verdict of each endpoint at which the bucket was ever written, by the URL's sha256."""

    endpoints: Mapping[Sha256, Verdict] = field(default_factory=dict)


def endpoint_digest(url: str) -> str:
    """The name of an endpoint in a record that anybody may read."""
    return hashlib.sha256(url.encode()).hexdigest()


class Requests(Protocol):
    """The single requests that a probe is made of; each raises what `Store` says."""

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
        """PutObject, and the new ETag. if_match: an ETag as it is sent; None: only if new."""

    def copy(self, source: str, target: str, if_match: Optional[str]) -> None:
        """CopyObject."""

    def delete(self, key: str) -> None:
        """DeleteObject."""


def probe(requests: Requests) -> Verdict:
    """Tries every condition. Raises Untrusted, naming the one that the store ignores.

    An answer may be lost, and botocore repeat a request that was carried out. So "refused" is
    believed only where it is what should happen, or where the object says the same.
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
        # Whoever publishes may be forbidden to delete: then three small objects stay.
        with contextlib.suppress(AccessDenied, StoreUnavailable):
            for key in (one, other, third):
                requests.delete(key)


def _create(requests: Requests, key: str) -> None:
    with contextlib.suppress(AlreadyExists):  # then an answer was lost
        requests.put(key, _A)


def _check_create(requests: Requests, key: str) -> None:
    if not _refused(lambda: requests.put(key, _B), AlreadyExists):
        raise _untrusted(requests, "If-None-Match", "the same key was created twice")


def _check_replace(requests: Requests, key: str) -> bool:
    """Whether ETags have to be sent without their quotes."""
    for wrong in (_NO_ETAG, _NO_ETAG.strip('"')):
        if not _refused(functools.partial(requests.put, key, _B, if_match=wrong), Changed):
            raise _untrusted(requests, "If-Match", "another version than the named was replaced")
    etag = requests.get(key).etag
    for sent in (etag, etag.strip('"')):
        attempt = functools.partial(requests.put, key, _B, if_match=sent)
        if not _refused(attempt, Changed) or requests.get(key).body == _B.source:
            return sent != etag
    raise Untrusted(
        f"{requests.name} replaces no object under If-Match, not even with the right ETag",
        means="records and pages could be created once, and never changed",
        do=_ADVICE,
    )


def _checks_sha256(requests: Requests, one: str, other: str) -> bool:
    """Whether the store compares sha256; raises Untrusted if it compares nothing."""
    if _refused(lambda: requests.put(one, _A, sha256=_B.sha256), BadDigest):
        _create(requests, one)
        return True
    # It is there now, with a body that was not announced.
    if not _refused(lambda: requests.put(other, _A, md5=bytes.fromhex(_B.md5)), BadDigest):
        raise _untrusted(
            requests,
            "x-amz-checksum-sha256 and Content-MD5",
            "a body was stored that is not the one that was announced",
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
    except AlreadyExists:  # carried out, and then repeated
        return False
    return False


def _untrusted(requests: Requests, ignored: str, seen: str) -> Untrusted:
    return Untrusted(
        f"{requests.name} ignores {ignored}: {seen}",
        means="of two publishers at once, one would undo what the other wrote, unnoticed",
        do=_ADVICE,
    )
