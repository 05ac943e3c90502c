"""Native files from wheels that were published before, instead of compiling them (design D5)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Protocol

from ci.errors import CiError
from ci.index.records import Ledger
from ci.matrix import Cuda
from ci.wheel import reader
from ci.wheel.reader import BadWheel


class WrongWheel(CiError):
    """A wheel whose native files were to be reused is not the one that was published."""


@dataclass(frozen=True)
class Published:
    """A published wheel, as its publisher recorded it."""

    key: str  # in its source
    variant: str
    native_digest: str  # "sha256:…"
    sha256: str  # of the file, hex
    commit: str  # that its native files were compiled from


class PublishedWheels(Protocol):
    """A place where published wheels are listed and kept."""

    def listed(self) -> Iterable[Published]:
        """Those that say what they were compiled from, best first."""

    def download(self, wheel: Published, target: Path) -> None:
        """Writes the wheel to `target`. Raises CiError."""


# Writes what else there is of a wheel's native files to the folder that they are unpacked in.
Beside = Callable[[Published, Path], None]


@dataclass
class Reuse:
    """Finds native files of the same inputs; remembers whose it used."""

    wheels: PublishedWheels
    beside: Optional[Beside] = None
    used: dict[str, str] = field(default_factory=dict)  # variant → commit that compiled them

    def forget(self, commit: str) -> None:
        """Leaves out of `used` the commit that is built: nobody calls that a reuse."""
        self.used = {variant: used for variant, used in self.used.items() if used != commit}

    def native_files(self, cuda: Cuda, digest: str, folder: Path) -> Optional[Path]:
        """A folder with the native files of `digest`, laid out as in a wheel; None if nobody has.

        They are checked against the hashes that were recorded when they were published. Raises
        WrongWheel or BadWheel for a wheel that is not that one any more, and StoreError.
        """
        for wheel in self.wheels.listed():
            if (wheel.variant, wheel.native_digest) == (cuda.variant, digest):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                path = folder / wheel.key.rsplit("/", 1)[-1]
                self.wheels.download(wheel, path)
                unpack(path, wheel, folder)
                if self.beside is not None:
                    self.beside(wheel, folder)
                self.used[cuda.variant] = wheel.commit
                return folder
        return None


def unpack(path: Path, published: Published, folder: Path) -> None:
    """Writes the native files of the wheel at `path` to `folder`, if it is the `published` one."""
    wheel, members = reader.open_wheel(path)
    if wheel.sha256 != published.sha256:
        raise WrongWheel(
            f"{path.name} has sha256 {wheel.sha256}, published was {published.sha256}",
            means="the bucket holds another file than the one that was published there",
        )
    said = (wheel.build.variant, wheel.build.native_digest)
    if said != (published.variant, published.native_digest):
        raise BadWheel(
            path,
            "build.json",
            expected=f"{published.variant} of {published.native_digest}",
            found=f"{said[0]} of {said[1]}",
        )
    for member in members:
        if member.name in wheel.native:
            target = folder / member.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(member.data)


def of_ledger(ledger: Ledger) -> Iterator[Published]:
    """Every wheel of the listed units that says what it was compiled from, newest first."""
    for unit in ledger.units:
        for file in unit.files:
            if file.variant is not None and file.native_digest is not None:
                yield Published(
                    unit.prefix + file.name,
                    file.variant,
                    file.native_digest,
                    file.sha256,
                    file.reused_from or unit.commit,
                )
