"""The Range header (RFC 9110, section 14) for a single range; multiple ranges are ignored."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

_RANGE = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """Bytes [start, stop) of an object; `partial` if a range was requested."""

    start: int
    stop: int
    partial: bool


def part(header: Optional[str], size: int) -> Optional[Part]:
    """The requested part of an object of `size` bytes; None if not satisfiable (416)."""
    whole = Part(0, size, False)
    found = _RANGE.fullmatch(header or "")
    if not found or not any(found.groups()):
        return whole
    first, last = found.groups()
    if not first:  # suffix range: the last N bytes
        start, stop = max(size - int(last), 0), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < int(first):
            return whole  # malformed, so ignored
    return Part(start, stop, True) if start < stop else None
