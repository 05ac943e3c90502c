"""A bucket as a source of native files: its nightlies and releases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ci.donors import BadDonor, Candidate, Donors, Source, of_ledger
from ci.index import records
from ci.publish import access
from ci.store import Store

__all__ = ["BadDonor", "Bucket", "Candidate", "Donors", "Source"]


@dataclass(frozen=True)
class Bucket:
    """The nightlies and releases of a bucket as a source of native files."""

    store: Store

    def candidates(self) -> Iterator[Candidate]:
        """Every wheel of the listed commits that says what it was compiled from, newest first."""
        for ledger in (records.NIGHTLIES, records.RELEASES):
            yield from of_ledger(access.read(self.store, ledger))

    def download(self, candidate: Candidate, target: Path) -> None:
        with target.open("wb") as file:
            for chunk in self.store.read(self.store.head(candidate.key)):
                file.write(chunk)
