"""Converts OSErrors to errors of the store."""

from __future__ import annotations

import contextlib
import errno
from typing import Iterator

from ci.store.base import AccessDenied, BadKey, StoreUnavailable


@contextlib.contextmanager
def errors(doing: str, bucket: str) -> Iterator[None]:
    """doing: what the with block does, such as "create KEY"."""
    try:
        yield
    except PermissionError as error:
        raise AccessDenied(
            f"cannot {doing} in {bucket}: {error.strerror}",
            means="this user has no permission there",
            do="choose another --bucket, or give this user permissions for that folder",
        ) from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EEXIST):
            raise BadKey(
                f"cannot {doing} in {bucket}: a link or a file is in the way",
                means="a bucket contains only files and folders; a link could point outside",
                do="remove it",
            ) from error
        raise StoreUnavailable(
            f"cannot {doing} in {bucket}: {error.strerror}",
            means="the file system failed, or lacks hard links or flock, which a bucket needs",
            do="use a folder on a local file system with free space",
        ) from error
