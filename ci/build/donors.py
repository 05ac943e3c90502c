"""Native files of wheels in the bucket, and a note of them beside what was built with them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ci.donors import BadDonor, Candidate, Donors, Source, of_ledger
from ci.git import Commit
from ci.index import records
from ci.publish import access
from ci.store import Store

# Beside wheels that were built with native files of another commit.
LOAN = "reused-{}.json"

__all__ = [
    "LOAN",
    "BadDonor",
    "Bucket",
    "Candidate",
    "Donors",
    "Source",
    "read_loans",
    "write_loans",
]


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


def write_loans(out: Path, commit: Commit, used: Mapping[str, str]) -> None:
    """Leaves beside the wheels of `commit` whose native files they have, for `read_loans`."""
    out.mkdir(parents=True, exist_ok=True)
    for variant, lender in used.items():
        text = json.dumps({"commit": commit.sha, "reused_from": lender}) + "\n"
        (out / LOAN.format(variant)).write_text(text, encoding="utf-8")


def read_loans(folder: Path, commit: Commit) -> dict[str, str]:
    """Variant → commit that its native files are of, as the builders of `commit` left it.

    Of an earlier commit's builders nothing is believed. Raises BadDonor for a file that is none.
    """
    loans: dict[str, str] = {}
    for path in sorted(folder.rglob(LOAN.format("*"))):
        try:
            loan = json.loads(path.read_text(encoding="utf-8"))
            if loan["commit"] == commit.sha:
                loans[path.name.split("-")[1].partition(".")[0]] = str(loan["reused_from"])
        except (ValueError, KeyError, TypeError) as error:
            raise BadDonor(f"{path} does not say whose native files were used: {error}") from error
    return loans
