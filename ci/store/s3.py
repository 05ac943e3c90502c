"""A bucket on S3 or a compatible store (``AWS_ENDPOINT_URL``).

All writes are conditional, so retries are safe: botocore may retry a request whose response was
lost, and the second response is then AlreadyExists or Changed. Callers then read the object, find
their own bytes, and continue. Whether a store honours conditions is probed before the first write
(`ci.store.verdict`) and recorded in the bucket.
"""

from __future__ import annotations

import base64
import contextlib
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Iterator, Optional

from ci.index import fields
from ci.store.base import (
    READ_CHUNK,
    AlreadyExists,
    Body,
    Changed,
    NotFound,
    Object,
    ObjectInfo,
    Reading,
)
from ci.store.keys import canonical, check, is_valid, s3_aliases
from ci.store.s3_errors import errors
from ci.store.s3_requests import S3Requests, make_client
from ci.store.verdict import KEY, OWN, Verdict, Verdicts, endpoint_digest, probe

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["S3Store", "make_client"]


class S3Store:
    """A bucket on S3. botocore finds credentials, region and endpoint.

    client: replaces botocore's, for tests. Every write, and `scan`, raises Untrusted if the store
    ignores conditions.
    """

    def __init__(self, bucket: str, client: Optional[S3Client] = None) -> None:
        self.bucket = bucket
        self._known: Optional[Verdict] = None
        self._requests = S3Requests(bucket, client)
        self._client = self._requests.client

    @property
    def name(self) -> str:
        return self._requests.name

    def aliases(self, key: str) -> tuple[str, ...]:
        return s3_aliases(key)

    def get(self, key: str) -> Object:
        return self._requests.get(_key(key))

    def head(self, key: str) -> ObjectInfo:
        with errors(f"look at {key} in", self.name):
            answer = self._client.head_object(
                Bucket=self.bucket, Key=_key(key), ChecksumMode="ENABLED"
            )
        return ObjectInfo(
            canonical(key),
            answer["ContentLength"],
            answer["ETag"],
            _utc(answer["LastModified"]),
            _hex(answer.get("ChecksumSHA256")),
            self._md5(answer["ETag"]),
        )

    def read(self, entry: ObjectInfo, start: int = 0, stop: Optional[int] = None) -> Reading:
        stop = entry.size if stop is None else stop
        if start >= stop:
            return Reading(iter(()), lambda: None)
        with errors(f"read {entry.key} in", self.name):
            answer = self._client.get_object(
                Bucket=self.bucket,
                Key=_key(entry.key),
                IfMatch=entry.etag,
                Range=f"bytes={start}-{stop - 1}",
            )
        if answer["ETag"] != entry.etag:  # some stores ignore If-Match here
            answer["Body"].close()
            raise Changed(f"{entry.key} in {self.name} was changed meanwhile")
        body = answer["Body"]
        return Reading(self._chunks(entry.key, body), body.close)

    def _chunks(self, key: str, body: Any) -> Iterator[bytes]:
        with errors(f"read {key} in", self.name):
            yield from body.iter_chunks(READ_CHUNK)

    def create(self, key: str, body: Body) -> str:
        return self._requests.put(_key(key), body, md5=self._md5_to_check(body))

    def replace(self, key: str, body: Body, etag: str) -> str:
        if_match = self._verdict().if_match(etag)
        return self._requests.put(_key(key), body, if_match=if_match, md5=self._md5_to_check(body))

    def copy(self, source: str, target: str, etag: Optional[str]) -> None:
        if self._verdict().conditional_copy:
            self._requests.copy(_key(source), _key(target), etag)
        else:
            self._copy_through(source, target, etag)

    def _copy_through(self, source: str, target: str, etag: Optional[str]) -> None:
        """A copy by download and PutObject, for stores that ignore conditions on CopyObject."""
        body = Body.of(self.get(source).body)
        if etag:
            self.replace(target, body, etag)
            return
        try:
            self.create(target, body)
        except AlreadyExists as error:
            raise Changed(error.what) from error

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        for item in self._list(prefix):
            if canonical(item["Key"]) == item["Key"]:
                yield self._entry(item)

    def scan(self, prefix: str) -> Iterator[ObjectInfo]:
        self._verdict()
        return map(self._entry, self._list(prefix))

    def _list(self, prefix: str) -> Iterator[Any]:
        pages = self._client.get_paginator("list_objects_v2")
        with errors("list", self.name):
            for page in pages.paginate(Bucket=self.bucket, Prefix=prefix):
                for item in page.get("Contents", []):
                    if is_valid(canonical(item["Key"])):  # nor those of the store itself
                        yield item

    def _entry(self, item: Any) -> ObjectInfo:
        etag = item["ETag"]
        modified = _utc(item["LastModified"])
        return ObjectInfo(item["Key"], item["Size"], etag, modified, None, self._md5(etag))

    def folders(self) -> Iterator[str]:
        pages = self._client.get_paginator("list_objects_v2")
        with errors("list", self.name):
            for page in pages.paginate(Bucket=self.bucket, Delimiter="/"):
                for item in page.get("CommonPrefixes", []):
                    if item["Prefix"] != OWN:
                        yield item["Prefix"].rstrip("/")

    def delete(self, key: str) -> None:
        self._requests.delete(_key(key))

    def _md5(self, etag: str) -> Optional[str]:
        """The MD5 in an ETag, if this store's ETags are known to be MD5s."""
        is_md5 = self._known is not None and self._known.etag_is_md5 and "-" not in etag
        return etag.strip('"') if is_md5 else None

    def _md5_to_check(self, body: Body) -> Optional[bytes]:
        """The Content-MD5 for a store that does not check sha256."""
        return None if self._verdict().checks_sha256 else bytes.fromhex(body.md5)

    def _verdict(self) -> Verdict:
        """The store's capabilities, from the record or by a probe."""
        if self._known is None:
            endpoint = endpoint_digest(self._requests.endpoint)
            recorded, etag = self._recorded()
            found = recorded.endpoints.get(endpoint)
            if found is None:
                found = probe(self._requests)
                self._record(Verdicts({**recorded.endpoints, endpoint: found}), found, etag)
            self._known = found
        return self._known

    def _recorded(self) -> tuple[Verdicts, Optional[str]]:
        try:
            found = self._requests.get(KEY)
        except NotFound:
            return Verdicts(), None
        return fields.read(Verdicts, found.body, f"{KEY} in {self.name}"), found.etag

    def _record(self, verdicts: Verdicts, verdict: Verdict, etag: Optional[str]) -> None:
        if_match = verdict.if_match(etag) if etag else None
        # If another publisher records its own at the same moment, this one is probed again later.
        with contextlib.suppress(AlreadyExists, Changed):
            self._requests.put(KEY, Body.of(fields.dump(verdicts)), if_match=if_match)


def _key(key: str) -> str:
    check(canonical(key))
    return key


def _utc(time: datetime) -> datetime:
    """`time` with the standard library's UTC; botocore uses dateutil's."""
    return time.astimezone(timezone.utc)


def _hex(checksum: Optional[str]) -> Optional[str]:
    """S3's base64 as hex; None for a multipart upload's checksum, which is not the sha256."""
    if not checksum or "-" in checksum:
        return None
    return base64.b64decode(checksum).hex()
