"""botocore's exceptions in the words of the store."""

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


@contextlib.contextmanager
def errors(
    doing: str,
    bucket: str,
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
