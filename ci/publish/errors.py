"""Errors that refuse a publication."""

from __future__ import annotations

from ci.errors import CiError


class PublishError(CiError):
    """The publication is refused; everything published before is unchanged."""


class IncompleteSet(PublishError):
    """Wheels are missing, or some do not belong to the set."""


class Conflict(PublishError):
    """A write-once file exists with other content."""
