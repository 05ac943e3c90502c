"""The versions of a commit's wheels (design, "Addresses")."""

from __future__ import annotations

from typing import Optional

from packaging.version import Version

# Digits of the commit in a development version: enough to be unique, few enough to type.
SHA_DIGITS = 9


def public(version: str, local: Optional[str], *, dirty: bool = False) -> str:
    """The version of a documented wheel: ``0.5.4`` or ``0.5.4+cu118``.

    dirty: the tree had uncommitted changes: ``0.5.4+cu118.dirty``.
    """
    return _join(version, [local, "dirty" if dirty else None])


def development(
    version: str, number: int, commit: str, local: Optional[str], *, dirty: bool = False
) -> str:
    """The unique, rising version of a commit: ``0.5.5.dev12+g0123abcde.cu118``.

    number: commits along the first parent since the tag of `version`.
    """
    release = Version(version).release
    next_patch = ".".join(str(part) for part in (*release[:-1], release[-1] + 1))
    parts = [f"g{commit[:SHA_DIGITS]}", local, "dirty" if dirty else None]
    return _join(f"{next_patch}.dev{number}", parts)


def _join(version: str, local: list[Optional[str]]) -> str:
    """`version` with a local version made of the parts that are not None."""
    parts = ".".join(part for part in local if part)
    return str(Version(f"{version}+{parts}" if parts else version))
