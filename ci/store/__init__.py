"""Buckets: one protocol for S3 and a folder. Other packages do not know which one they use."""

from __future__ import annotations

import re
from pathlib import Path

from ci.store.base import (
    AccessDenied,
    AlreadyExists,
    BadDigest,
    BadKey,
    Body,
    Changed,
    NotFound,
    Object,
    ObjectInfo,
    Reading,
    Store,
    StoreError,
    StoreUnavailable,
)
from ci.store.folder import FolderStore
from ci.store.verdict import Untrusted

__all__ = [
    "AccessDenied",
    "AlreadyExists",
    "BadDigest",
    "BadKey",
    "Body",
    "Changed",
    "ObjectInfo",
    "FolderStore",
    "NotFound",
    "Object",
    "Reading",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "Untrusted",
    "open_store",
]

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def open_store(where: str) -> Store:
    """Opens the bucket at ``s3://name`` or in a folder. Raises StoreError."""
    scheme, separator, rest = where.partition("://")
    if not separator:
        return FolderStore(Path(where))
    if scheme != "s3" or not _BUCKET.fullmatch(rest.rstrip("/")):
        raise StoreError(
            f"{where!r} is not a bucket",
            means="a bucket is a folder, or s3:// and the name of an S3 bucket, without a prefix",
            do="for example --bucket wheelhouse/bucket or --bucket s3://vllm-wheels",
        )
    # Imported late: publishing to a folder should not wait for boto3's import.
    from ci.store.s3 import S3Store

    return S3Store(rest.rstrip("/"))
