"""Reuses native files of published wheels instead of compiling them (design D5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Protocol

from ci import scratch
from ci.errors import CiError
from ci.index.records import Ledger
from ci.matrix import Cuda
from ci.wheel import reader
from ci.wheel.reader import BadWheel


class WrongWheel(CiError):
    """A wheel to reuse differs from the one that was published."""


@dataclass(frozen=True)
class Published:
    """A published wheel, as recorded by its publisher."""

    key: str  # in its bucket
    variant: str
    native_digest: str  # "sha256:…"
    sha256: str  # of the file, hex
    commit: str  # that compiled its native files


class PublishedWheels(Protocol):
    """A source of published wheels."""

    def listed(self) -> Iterable[Published]:
        """Wheels with a native digest, preferred ones first."""

    def download(self, wheel: Published, target: Path) -> None:
        """Writes the wheel to `target`. Raises CiError."""


# Downloads further files of a wheel, its debug symbols, to the folder of the unpacked ones.
Beside = Callable[[Published, Path], None]


@dataclass
class Reuse:
    """Finds native files with the same inputs; remembers which commits it used."""

    wheels: PublishedWheels
    beside: Optional[Beside] = None
    used: dict[str, str] = field(default_factory=dict)  # variant → commit that compiled them

    def forget(self, commit: str) -> None:
        """Removes the commit being built from `used`: using its own files is not a reuse."""
        self.used = {variant: used for variant, used in self.used.items() if used != commit}

    def native_files(self, cuda: Cuda, digest: str, folder: Path) -> Optional[Path]:
        """A folder with the native files of `digest`, laid out as in a wheel; None if not found.

        They are verified with the hashes recorded at publication. Raises WrongWheel or BadWheel for
        a wheel that was changed since, and StoreError.
        """
        for wheel in self.wheels.listed():
            if (wheel.variant, wheel.native_digest) == (cuda.variant, digest):
                scratch.remove(folder)
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
    """Unpacks the native files of the wheel at `path`, after verifying it against `published`."""
    wheel, members = reader.open_wheel(path)
    if wheel.sha256 != published.sha256:
        raise WrongWheel(
            f"{path.name} has sha256 {wheel.sha256}, published was {published.sha256}",
            means="the file in the bucket is not the one that was published",
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
    """Every wheel of the listed units with a native digest, newest first."""
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
