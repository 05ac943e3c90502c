"""The findings of an audit, and the error that lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ci.errors import CiError


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a wheel."""

    member: str  # "" for the wheel as a whole
    expected: str
    found: str

    def __str__(self) -> str:
        place = f"{self.member}: " if self.member else ""
        return f"{place}expected {self.expected}, found {self.found}"


class AuditError(CiError):
    """A wheel that must not be published."""

    def __init__(self, wheel: Path, findings: Sequence[Finding]) -> None:
        lines = "".join(f"\n    {finding}" for finding in findings)
        super().__init__(
            f"{wheel.name} failed the audit:{lines}",
            means="the wheel does not hold what its name promises, and is not published",
            do="fix the cause and build again: python -m ci build",
        )
        self.wheel, self.findings = wheel, tuple(findings)
