"""The error of a release."""

from __future__ import annotations

from ci.errors import CiError


class ReleaseError(CiError):
    """The commit cannot be released, or not under that version."""
