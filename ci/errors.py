"""The one way this tool fails on purpose: what happened, what it means, what to do."""

from __future__ import annotations


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
