"""Native files from wheels that were published before, instead of compiling them (DESIGN D5)."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Protocol

from ci.errors import CiError
from ci.index.records import Ledger
from ci.matrix import Cuda
from ci.wheel import reader
from ci.wheel.reader import BadWheel


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
                unpack(path, candidate, folder)
                self.used[cuda.variant] = candidate.commit
                return folder
        return None


def unpack(path: Path, candidate: Candidate, folder: Path) -> None:
    """Writes the native files of the wheel at `path` below `folder`, if it is that `candidate`."""
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


def of_ledger(ledger: Ledger) -> Iterator[Candidate]:
    """Every wheel of the listed units that says what it was compiled from, newest first."""
    for unit in ledger.units:
        for file in unit.files:
            if file.variant is not None and file.native_digest is not None:
                yield Candidate(
                    unit.prefix + file.name,
                    file.variant,
                    file.native_digest,
                    file.sha256,
                    file.reused_from or unit.commit,
                )
