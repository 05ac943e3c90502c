"""Publishing as a transaction (design D6): write-once files, one commit point, then the pages."""

from ci.publish.errors import Conflict, IncompleteSet, PublishError
from ci.publish.transaction import PublishResult, begin, check_variants, fail, publish

__all__ = [
    "Conflict",
    "IncompleteSet",
    "PublishError",
    "PublishResult",
    "begin",
    "check_variants",
    "fail",
    "publish",
]
