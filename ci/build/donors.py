"""Native files from wheels that were published before, instead of compiling them (DESIGN D5)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Protocol

from ci.errors import CiError
from ci.git import Commit
from ci.index import records
from ci.matrix import Cuda
from ci.publish import access
from ci.store import Store
from ci.wheel import reader
from ci.wheel.reader import BadWheel

# Beside wheels that were built with native files of another commit.
LOAN = "reused-{}.json"


class BadDonor(CiError):
    """A wheel that was to lend its native files is not the one that was published."""


@dataclass(frozen=True)
class Candidate:
    """A published wheel, as its publisher recorded it."""

    key: str  # in its source
    variant: str
    native_digest: str  # "sha256:…"
    sha256: str  # of the file, hex
    commit: str  # that its native files were compiled from


class Source(Protocol):
    """Where published wheels are listed and kept."""

    def candidates(self) -> Iterable[Candidate]:
        """What could lend native files, best first."""

    def download(self, candidate: Candidate, target: Path) -> None:
        """Writes the wheel to `target`. Raises CiError."""


@dataclass
class Donors:
    """Finds native files of the same inputs; remembers whose it used."""

    source: Source
    used: dict[str, str] = field(default_factory=dict)  # variant → commit that compiled them

    def forget(self, commit: str) -> None:
        """Leaves out of `used` the commit that is built: nobody calls that a reuse."""
        self.used = {variant: used for variant, used in self.used.items() if used != commit}

    def native_files(self, cuda: Cuda, digest: str, folder: Path) -> Optional[Path]:
        """A folder with the native files of `digest`, laid out as in a wheel; None if nobody has.

        They are checked against the hashes that were recorded when they were published. Raises
        BadDonor or BadWheel for a wheel that is not that one any more, and StoreError.
        """
        for candidate in self.source.candidates():
            if (candidate.variant, candidate.native_digest) == (cuda.variant, digest):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                path = folder / candidate.key.rsplit("/", 1)[-1]
                self.source.download(candidate, path)
                _unpack(path, candidate, folder)
                self.used[cuda.variant] = candidate.commit
                return folder
        return None


def _unpack(path: Path, candidate: Candidate, folder: Path) -> None:
    wheel, members = reader.open_wheel(path)
    if wheel.sha256 != candidate.sha256:
        raise BadDonor(
            f"{path.name} has sha256 {wheel.sha256}, published was {candidate.sha256}",
            means="the bucket holds another file than the one that was published there",
        )
    said = (wheel.build.variant, wheel.build.native_digest)
    if said != (candidate.variant, candidate.native_digest):
        raise BadWheel(
            path,
            "build.json",
            expected=f"{candidate.variant} of {candidate.native_digest}",
            found=f"{said[0]} of {said[1]}",
        )
    for member in members:
        if member.name in wheel.native:
            target = folder / member.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(member.data)


@dataclass(frozen=True)
class Bucket:
    """The nightlies and releases of a bucket as a source of native files."""

    store: Store

    def candidates(self) -> Iterator[Candidate]:
        """Every wheel of the listed commits that says what it was compiled from, newest first."""
        for ledger in (records.NIGHTLIES, records.RELEASES):
            for unit in access.read(self.store, ledger).units:
                for file in unit.files:
                    if file.variant is not None and file.native_digest is not None:
                        yield Candidate(
                            unit.prefix + file.name,
                            file.variant,
                            file.native_digest,
                            file.sha256,
                            file.reused_from or unit.commit,
                        )

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
