"""Converts botocore's exceptions to errors of the store."""

from __future__ import annotations

import contextlib
from typing import Iterator

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
)

from ci.store.base import (
    AccessDenied,
    BadDigest,
    Changed,
    NotFound,
    StoreError,
    StoreUnavailable,
)

_MISSING = {"NoSuchKey", "404", "NotFound"}
# 409: another conditional write of the same key is in progress. Callers look again.
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


@contextlib.contextmanager
def errors(
    doing: str,
    bucket: str,
    refused: type[StoreError] = Changed,
    missing: type[StoreError] = NotFound,
) -> Iterator[None]:
    """Converts botocore's exceptions to errors of the store.

    refused, missing: the errors for a failed precondition and for a missing key.

    Their messages and the exceptions themselves are dropped: they quote requests and endpoints,
    which may contain credentials. S3's error code is kept.
    """
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        failure = _from_code(code, f"cannot {doing} {bucket}: {code}", refused, missing)
    except (NoCredentialsError, PartialCredentialsError):
        failure = AccessDenied(
            f"cannot {doing} {bucket}: no credentials were found",
            means="S3 requires signed requests",
            do="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or run under a role",
        )
    except BotoCoreError as error:
        failure = StoreUnavailable(
            f"cannot {doing} {bucket}: {type(error).__name__}",
            means="the bucket did not respond, or not completely; its contents are unknown",
            do="check the network, AWS_ENDPOINT_URL and the region; then repeat the command",
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
            means="this endpoint has no bucket of that name",
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
            means="the received bytes do not match their digest; nothing was stored",
            do="repeat the command; if it fails again, check the disk and the network",
        )
    return StoreUnavailable(
        what,
        means="the bucket failed in a way that leaves its contents unknown",
        do="repeat the command later",
    )
