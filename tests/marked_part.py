"""A part of a document that a command writes, between two comments that a reader does not see."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class MarkedPart(NamedTuple):
    """begin, end: whole lines of the document, with their line ends."""

    document: Path
    begin: str
    end: str

    def text(self) -> str:
        """What the document has there now."""
        return self._read().partition(self.begin)[2].partition(self.end)[0]

    def write(self, text: str) -> None:
        """Writes it anew; the rest of the document stays."""
        before, _, rest = self._read().partition(self.begin)
        after = rest.partition(self.end)[2]
        self.document.write_text(before + self.begin + text + self.end + after, encoding="utf-8")

    def _read(self) -> str:
        return self.document.read_text(encoding="utf-8")
