"""Versions that one commit's wheels carry (DESIGN §2, "Names and URLs")."""

from __future__ import annotations

from typing import Optional

from packaging.version import Version

# Digits of the commit in a development version: unique for any history that we will see, and
# short enough to type.
SHA_DIGITS = 9


def public(version: str, local: Optional[str]) -> str:
    """The version of a documented wheel: ``0.5.4`` or ``0.5.4+cu118``."""
    return str(Version(f"{version}+{local}" if local else version))


def development(version: str, number: int, commit: str, local: Optional[str]) -> str:
    """The unique, rising version of a commit: ``0.5.5.dev12+g0123abcde.cu118``.

    number: commits along the first parent since the tag of `version`.
    """
    release = Version(version).release
    next_patch = ".".join(str(part) for part in (*release[:-1], release[-1] + 1))
    parts = [f"g{commit[:SHA_DIGITS]}", *([local] if local else [])]
    return str(Version(f"{next_patch}.dev{number}+{'.'.join(parts)}"))
