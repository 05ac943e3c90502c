"""Single requests to S3, which make no assumption about the store's capabilities."""

from __future__ import annotations

import base64
import contextlib
import os
from typing import TYPE_CHECKING, Any, Literal, Optional

import boto3
from botocore.config import Config

from ci.store.base import AlreadyExists, Body, Changed, Object
from ci.store.keys import canonical, headers
from ci.store.s3_errors import errors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Four attempts, with botocore's back-off, only for throttling, 5xx and broken connections.
_RETRIES = {"mode": "standard", "total_max_attempts": 4}


class S3Requests:
    """Implements `ci.store.verdict.Requests` for a bucket on S3."""

    def __init__(self, bucket: str, client: Optional[S3Client]) -> None:
        self.bucket, self.name = bucket, f"s3://{bucket}"
        with errors("connect to", self.name):
            self.client = client or make_client()

    @property
    def endpoint(self) -> str:
        return self.client.meta.endpoint_url

    def get(self, key: str) -> Object:
        with errors(f"read {key} in", self.name):
            answer = self.client.get_object(Bucket=self.bucket, Key=key)
            with contextlib.closing(answer["Body"]) as body:
                return Object(body.read(), answer["ETag"])

    def put(
        self,
        key: str,
        body: Body,
        *,
        if_match: Optional[str] = None,
        sha256: Optional[str] = None,
        md5: Optional[bytes] = None,
    ) -> str:
        answering = headers(canonical(key))
        more: dict[str, Any] = {"IfMatch": if_match} if if_match else {"IfNoneMatch": "*"}
        if md5 is not None:
            more["ContentMD5"] = base64.b64encode(md5).decode()
        refused = Changed if if_match else AlreadyExists
        doing = "replace" if if_match else "create"
        with contextlib.ExitStack() as stack:
            stack.enter_context(errors(f"{doing} {key} in", self.name, refused, Changed))
            source: Any = body.source
            if not isinstance(source, bytes):
                source = stack.enter_context(source.open("rb"))
            answer = self.client.put_object(
                Bucket=self.bucket,
                Key=key,
                Body=source,
                ContentLength=body.size,
                # S3 verifies these, and stores the sha256 for `head`.
                ChecksumAlgorithm="SHA256",
                ChecksumSHA256=base64.b64encode(bytes.fromhex(sha256 or body.sha256)).decode(),
                ContentType=answering.content_type,
                CacheControl=answering.cache_control,
                **more,
            )
        return answer["ETag"]

    def copy(self, source: str, target: str, if_match: Optional[str]) -> None:
        answering = headers(canonical(target))
        condition: Any = {"IfMatch": if_match} if if_match else {"IfNoneMatch": "*"}
        with errors(f"copy {source} to {target} in", self.name):
            self.client.copy_object(
                Bucket=self.bucket,
                Key=target,
                CopySource={"Bucket": self.bucket, "Key": source},
                ChecksumAlgorithm="SHA256",
                MetadataDirective="REPLACE",
                ContentType=answering.content_type,
                CacheControl=answering.cache_control,
                **condition,
            )

    def delete(self, key: str) -> None:
        with errors(f"delete {key} in", self.name):
            self.client.delete_object(Bucket=self.bucket, Key=key)


def make_client() -> S3Client:
    """A boto3 client with botocore's own search for credentials."""
    # Path style outside AWS: bucket names in the host need a wildcard DNS name at the endpoint.
    style: Literal["path", "auto"] = "path" if os.environ.get("AWS_ENDPOINT_URL") else "auto"
    config = Config(
        retries=_RETRIES,  # type: ignore[arg-type]
        connect_timeout=10,
        read_timeout=60,
        s3={"addressing_style": style},
    )
    # A separate session: boto3's shared one caches the first credentials that it finds.
    return boto3.Session().client("s3", config=config)
