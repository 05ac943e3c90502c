"""A bucket on S3, or on anything that speaks its protocol (``AWS_ENDPOINT_URL``).

All writes but the alias copies are conditional, so repeating one is safe: botocore may repeat a
request whose answer was lost, and the second answer is then AlreadyExists or Changed. Callers
treat these as "look again", find their own bytes there, and go on.
"""

from __future__ import annotations

import base64
import contextlib
import os
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Iterator, Literal, Mapping, Optional

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
)

from ci.store.base import (
    CHUNK,
    AccessDenied,
    AlreadyExists,
    BadDigest,
    Body,
    Changed,
    Entry,
    NotFound,
    Object,
    StoreError,
    StoreUnavailable,
)
from ci.store.keys import canonical, check, headers, s3_aliases

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MISSING = {"NoSuchKey", "404", "NotFound"}
# 409: another conditional write of the same key is under way. Whoever looks again finds out.
_CONDITION_FAILED = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}
_DENIED = {
    "AccessDenied",
    "401",
    "403",
    "ExpiredToken",
    "Forbidden",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}
_WRONG_BYTES = {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch"}

# Four tries, with botocore's back-off, for throttling, 5xx and broken connections; nothing else.
_RETRIES = {"mode": "standard", "total_max_attempts": 4}


class S3Store:
    """A bucket on S3. Credentials, region and endpoint are botocore's to find.

    client: a client of one's own, for tests.
    """

    def __init__(self, bucket: str, client: Optional[S3Client] = None) -> None:
        self.bucket = bucket
        with _errors("connect to", self.name):
            self._client = client or make_client()

    @property
    def name(self) -> str:
        return f"s3://{self.bucket}"

    def aliases(self, key: str) -> tuple[str, ...]:
        return s3_aliases(key)

    def get(self, key: str) -> Object:
        with _errors(f"read {key} in", self.name):
            answer = self._client.get_object(Bucket=self.bucket, Key=_key(key))
            with contextlib.closing(answer["Body"]) as body:
                return Object(body.read(), answer["ETag"])

    def head(self, key: str) -> Entry:
        with _errors(f"look at {key} in", self.name):
            answer = self._client.head_object(
                Bucket=self.bucket, Key=_key(key), ChecksumMode="ENABLED"
            )
        return Entry(
            canonical(key),
            answer["ContentLength"],
            answer["ETag"],
            _utc(answer["LastModified"]),
            _hex(answer.get("ChecksumSHA256")),
        )

    def read(self, entry: Entry, start: int = 0, stop: Optional[int] = None) -> Iterator[bytes]:
        stop = entry.size if stop is None else stop
        if start >= stop:
            return iter(())
        with _errors(f"read {entry.key} in", self.name):
            answer = self._client.get_object(
                Bucket=self.bucket,
                Key=_key(entry.key),
                IfMatch=entry.etag,
                Range=f"bytes={start}-{stop - 1}",
            )
        return self._chunks(entry.key, answer["Body"])

    def _chunks(self, key: str, body: Any) -> Iterator[bytes]:
        with contextlib.closing(body), _errors(f"read {key} in", self.name):
            yield from body.iter_chunks(CHUNK)

    def create(self, key: str, body: Body) -> str:
        with _errors(f"create {key} in", self.name, refused=AlreadyExists):
            return self._put(key, body, IfNoneMatch="*")

    def replace(self, key: str, body: Body, etag: str) -> str:
        with _errors(f"replace {key} in", self.name, refused=Changed, missing=Changed):
            return self._put(key, body, IfMatch=etag)

    def _put(self, key: str, body: Body, **condition: Any) -> str:
        answering = headers(canonical(key))
        with contextlib.ExitStack() as stack:
            source: Any = body.source
            if not isinstance(source, bytes):
                source = stack.enter_context(source.open("rb"))
            answer = self._client.put_object(
                Bucket=self.bucket,
                Key=_key(key),
                Body=source,
                ContentLength=body.size,
                # S3 compares these with what arrives, and keeps them for `head`.
                ChecksumAlgorithm="SHA256",
                ChecksumSHA256=base64.b64encode(bytes.fromhex(body.sha256)).decode(),
                ContentType=answering.content_type,
                CacheControl=answering.cache_control,
                **condition,
            )
        return answer["ETag"]

    def copy(self, source: str, target: str, etag: Optional[str]) -> None:
        answering = headers(canonical(target))
        condition: Mapping[str, Any] = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        with _errors(f"copy {source} to {target} in", self.name):
            self._client.copy_object(
                Bucket=self.bucket,
                Key=_key(target),
                CopySource={"Bucket": self.bucket, "Key": _key(source)},
                ChecksumAlgorithm="SHA256",
                MetadataDirective="REPLACE",
                ContentType=answering.content_type,
                CacheControl=answering.cache_control,
                **condition,
            )

    def list(self, prefix: str) -> Iterator[Entry]:
        pages = self._client.get_paginator("list_objects_v2")
        with _errors("list", self.name):
            for page in pages.paginate(Bucket=self.bucket, Prefix=prefix):
                for item in page.get("Contents", []):
                    if canonical(item["Key"]) == item["Key"]:
                        modified = _utc(item["LastModified"])
                        yield Entry(item["Key"], item["Size"], item["ETag"], modified)

    def folders(self) -> Iterator[str]:
        pages = self._client.get_paginator("list_objects_v2")
        with _errors("list", self.name):
            for page in pages.paginate(Bucket=self.bucket, Delimiter="/"):
                for item in page.get("CommonPrefixes", []):
                    yield item["Prefix"].rstrip("/")

    def delete(self, key: str) -> None:
        with _errors(f"delete {key} in", self.name):
            self._client.delete_object(Bucket=self.bucket, Key=_key(key))


def make_client() -> S3Client:
    """A client that finds its own credentials, as botocore documents; used by `S3Store`."""
    # Buckets as host names need a wildcard name at the endpoint, which only AWS has for sure.
    style: Literal["path", "auto"] = "path" if os.environ.get("AWS_ENDPOINT_URL") else "auto"
    config = Config(
        retries=_RETRIES,  # type: ignore[arg-type]
        connect_timeout=10,
        read_timeout=60,
        s3={"addressing_style": style},
    )
    # A session of its own: boto3's shared one would remember the first credentials it saw.
    return boto3.Session().client("s3", config=config)


def _key(key: str) -> str:
    check(canonical(key))
    return key


def _utc(time: datetime) -> datetime:
    """`time` in the standard library's UTC: botocore's is dateutil's, which few others know."""
    return time.astimezone(timezone.utc)


def _hex(checksum: Optional[str]) -> Optional[str]:
    """S3's base64 as hex; None for one of a multipart upload, which is no sha256 of the object."""
    if not checksum or "-" in checksum:
        return None
    return base64.b64decode(checksum).hex()


@contextlib.contextmanager
def _errors(
    doing: str,
    bucket: str,
    *,
    refused: type[StoreError] = Changed,
    missing: type[StoreError] = NotFound,
) -> Iterator[None]:
    """botocore's exceptions in the words of the store.

    refused, missing: what it means that a condition did not hold, or that there is no such key.

    Neither their messages nor the exceptions themselves are passed on: they quote requests and
    endpoints, which can hold credentials. The code that S3 answered with is enough to go by.
    """
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        failure = _from_code(code, f"cannot {doing} {bucket}: {code}", refused, missing)
    except (NoCredentialsError, PartialCredentialsError):
        failure = AccessDenied(
            f"cannot {doing} {bucket}: no credentials were found",
            means="S3 answers only requests that are signed",
            do="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or run under a role",
        )
    except BotoCoreError as error:
        failure = StoreUnavailable(
            f"cannot {doing} {bucket}: {type(error).__name__}",
            means="the bucket did not answer, or not in full; what it holds is unknown",
            do="check the network, AWS_ENDPOINT_URL and the region; then the same command again",
        )
    else:
        return
    raise failure from None


def _from_code(
    code: str, what: str, refused: type[StoreError], missing: type[StoreError]
) -> StoreError:
    if code in _MISSING:
        return missing(what)
    if code in _CONDITION_FAILED:
        return refused(what)
    if code == "NoSuchBucket":
        return StoreUnavailable(
            what,
            means="there is no bucket of that name at this endpoint",
            do="check the name and AWS_ENDPOINT_URL, or create the bucket",
        )
    if code in _DENIED:
        return AccessDenied(
            what,
            means="the credentials are wrong or expired, or their policy does not allow this",
            do="check them, and compare the policy with docs/publishing.md",
        )
    if code in _WRONG_BYTES:
        return BadDigest(
            what,
            means="what arrived is not what was hashed; nothing was stored",
            do="the same command again; if it fails again, look at the disk and the network",
        )
    return StoreUnavailable(
        what,
        means="the bucket failed in a way that says nothing about what it holds",
        do="the same command again, later",
    )
