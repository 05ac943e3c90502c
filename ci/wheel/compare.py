"""Compares two wheels: sizes member by member, and bytes."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Optional

from ci.wheel import reader


@dataclass(frozen=True)
class SizeChange:
    """A member's compressed bytes in both wheels; None if it is missing there."""

    name: str
    before: Optional[int]
    after: Optional[int]

    @property
    def delta(self) -> int:
        return (self.after or 0) - (self.before or 0)


@dataclass(frozen=True)
class Difference:
    """The first difference between two wheels."""

    member: str  # "" if it is outside of the members' content
    byte: Optional[int]  # offset in the member, or in the file
    what: str

    def __str__(self) -> str:
        at = "" if self.byte is None else f" at byte {self.byte}"
        return f"{self.member or 'the archive'}{at}: {self.what}"


def sizes(before: Path, after: Path) -> list[SizeChange]:
    """Every member of either wheel, the largest change first."""
    old, new = _packed(before), _packed(after)
    changes = [SizeChange(name, old.get(name), new.get(name)) for name in old.keys() | new.keys()]
    return sorted(changes, key=lambda change: (-abs(change.delta), change.name))


def by_arch(changes: list[SizeChange]) -> dict[str, SizeChange]:
    """Arch → the sum of its cubins or PTX in both wheels."""
    sums: dict[str, SizeChange] = {}
    for change in changes:
        path = PurePosixPath(change.name)
        if path.suffix in (".cubin", ".ptx"):
            arch = path.parent.name
            old = sums.get(arch, SizeChange(arch, 0, 0))
            before = (old.before or 0) + (change.before or 0)
            sums[arch] = SizeChange(arch, before, (old.after or 0) + (change.after or 0))
    return dict(sorted(sums.items()))


def first_difference(expected: Path, found: Path) -> Optional[Difference]:
    """The first difference, in the order of members in `found`; None if they are equal.

    Raises BadWheel if either is invalid.
    """
    one = {member.name: member.data for member in reader.open_wheel(expected)[1]}
    other = {member.name: member.data for member in reader.open_wheel(found)[1]}
    for name in other:
        if name not in one:
            return Difference(name, None, "is only in the second")
        byte = _first_byte(one[name], other[name])
        if byte is not None:
            return Difference(name, byte, _bytes_at(one[name], other[name], byte))
    for name in one:
        if name not in other:
            return Difference(name, None, "is only in the first")
    left, right = expected.read_bytes(), found.read_bytes()
    byte = _first_byte(left, right)
    return None if byte is None else Difference("", byte, _bytes_at(left, right, byte))


def _packed(path: Path) -> dict[str, int]:
    with zipfile.ZipFile(path) as archive:
        return {_plain(info.filename): info.compress_size for info in archive.infolist()}


def _plain(name: str) -> str:
    """A member's name without version and variant, to compare wheels that differ in these."""
    name = re.sub(r"^[^/]+\.dist-info/", "dist-info/", name)
    return re.sub(r"^vllm/kernels/[^/]+/", "vllm/kernels/", name)


def _first_byte(one: bytes, other: bytes) -> Optional[int]:
    if one == other:
        return None
    pairs = enumerate(zip(one, other))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _bytes_at(one: bytes, other: bytes, byte: int) -> str:
    def show(data: bytes) -> str:
        return data[byte : byte + 8].hex(" ") or "the end"

    return f"{show(one)} in the first, {show(other)} in the second"
