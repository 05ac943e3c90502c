"""The ways in which a publication is refused."""

from __future__ import annotations

from ci.errors import CiError


class PublishError(CiError):
    """Nothing was published, and what was published before is as it was."""


class IncompleteSet(PublishError):
    """Wheels are missing, or there are some that do not belong to the set."""


class Conflict(PublishError):
    """A write-once file exists with other content."""
