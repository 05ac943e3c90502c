"""What an audited wheel holds, for people: its largest members, and bytes per kernel and arch."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import PurePosixPath

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ci.wheel.reader import WheelFile

LARGEST = 5


@dataclass(frozen=True)
class AuditReport:
    """A wheel that passed."""

    wheel: WheelFile
    policy: str  # "manylinux_2_5_x86_64", from auditwheel
    extension: str  # what abi3audit says of the host library
    budget: int  # bytes
    packed: dict[str, int]  # member → bytes in the archive

    @classmethod
    def of(cls, wheel: WheelFile, *, policy: str, extension: str, budget: int) -> AuditReport:
        """The report of `wheel`; the compressed sizes of members are read from the file."""
        with zipfile.ZipFile(wheel.path) as archive:
            packed = {info.filename: info.compress_size for info in archive.infolist()}
        return cls(wheel, policy, extension, budget, packed)

    def largest(self) -> list[tuple[str, int]]:
        """The members that take the most bytes of the file, largest first."""
        return sorted(self.packed.items(), key=lambda item: (-item[1], item[0]))[:LARGEST]

    def device_bytes(self) -> dict[str, dict[str, int]]:
        """Kernel → arch → bytes in the archive."""
        sizes: dict[str, dict[str, int]] = {}
        for name, size in self.packed.items():
            path = PurePosixPath(name)
            if path.suffix in (".cubin", ".ptx"):
                sizes.setdefault(path.stem, {})[path.parent.name] = size
        return sizes

    def table(self) -> Group:
        """For a terminal."""
        share = self.wheel.size / self.budget
        lines = [
            self.wheel.path.name,
            f"sha256 {self.wheel.sha256}",
            f"auditwheel: {self.policy}; abi3audit: {self.extension}",
            f"{len(self.packed)} members, {self.wheel.size:,} bytes, {share:.1%} of the budget",
        ]
        return Group(Text("\n".join(lines)), self._largest_table(), self._device_table())

    def _largest_table(self) -> Table:
        table = Table("largest members", "bytes")
        table.columns[1].justify = "right"
        for name, size in self.largest():
            table.add_row(name, f"{size:,}")
        return table

    def _device_table(self) -> Table:
        sizes = self.device_bytes()
        archs = sorted({arch for row in sizes.values() for arch in row}, key=_order)
        # Short names, no borders and whole kB: 11 architectures fit a terminal of 80 columns.
        heads = [arch.replace("sm_", "").replace("compute_", "PTX") for arch in archs]
        table = Table("kB by sm_", *heads, box=None, padding=(0, 1, 0, 0))
        table.columns[0].overflow = "fold"
        for column in table.columns[1:]:
            column.justify = "right"
        for kernel in sorted(sizes):
            row = [sizes[kernel].get(arch, 0) for arch in archs]
            table.add_row(kernel, *(f"{size / 1e3:.0f}" for size in row))
        sums = [sum(row.get(arch, 0) for row in sizes.values()) for arch in archs]
        table.add_row("sum", *(f"{size / 1e3:.0f}" for size in sums))
        return table


def _order(arch: str) -> tuple[bool, int, str]:
    """By number, PTX last: the key to sort ``sm_90``, ``sm_90a``, ``sm_100`` and ``compute_90``."""
    kind, _, digits = arch.partition("_")
    return kind == "compute", int(digits.rstrip("af")), digits
