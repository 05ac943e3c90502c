"""The failure of a release."""

from __future__ import annotations

from ci.errors import CiError


class ReleaseError(CiError):
    """This commit cannot be released under that version, or not there."""
