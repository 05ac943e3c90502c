"""The error of this tool for people: what happened, what it means, what to do."""

from __future__ import annotations

import errno


class CiError(Exception):
    """A failure that the person at the terminal can act on.

    Raise a subclass per kind of failure, so that callers and tests can tell them apart.
    """

    def __init__(self, what: str, *, means: str = "", do: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.means = means
        self.do = do

    def __str__(self) -> str:
        lines = [self.what]
        if self.means:
            lines.append(f"  what it means: {self.means}")
        if self.do:
            lines.append(f"  what to do:    {self.do}")
        return "\n".join(lines)


# For each errno: what it means, what to do.
_REFUSED = (
    "this user lacks permission there",
    "work in a copy of your own (cp -r, git clone), or as the owner of that folder",
)
_SYSTEM = {
    errno.EACCES: _REFUSED,
    errno.EPERM: _REFUSED,
    errno.EROFS: ("that file system is read-only", "work in a copy on another one"),
    errno.ENOSPC: ("the disk is full", "make room, and run the same command again"),
    errno.EDQUOT: ("this user's share of the disk is used up", "make room, or ask for more"),
    errno.EMFILE: ("this process has too many open files", "raise the limit: ulimit -n 4096"),
    errno.ENOENT: ("a required file or program is missing", "restore or install it"),
}


def of_system(error: OSError) -> CiError:
    """A `CiError` for an error of the operating system."""
    means, do = _SYSTEM.get(
        error.errno or 0,
        ("the operating system refused it", "fix the cause named above, and try again"),
    )
    return CiError(str(error), means=means, do=do)
