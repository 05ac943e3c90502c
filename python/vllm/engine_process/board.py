"""Numbers that several processes share: the clients of the same engines."""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import Optional

# Each kind of number has a region of this size. Pages that nobody writes take no memory.
_REGION_BYTES = 1 << 21
_REGIONS = ("engines", "places", "connections", "metrics", "prefixes")
_NUM_BYTES = 8


class SharedMemory:
    """Zeros at first. An aligned number of 8 bytes is read and written in one access, so there are
    no locks: each number has one writer, or any of its values is as good as another.

    writer, num_writers: which of how many processes this one is.
    fd: of the file, which has no name and so ends with its last process; None for one process.
    """

    def __init__(self, writer: int = 0, num_writers: int = 1, fd: Optional[int] = None) -> None:
        self.writer = writer
        self.num_writers = num_writers
        self._map = mmap.mmap(-1 if fd is None else fd, _REGION_BYTES * len(_REGIONS))

    @staticmethod
    def create_file() -> int:
        """The descriptor of a file for `fd`; the caller closes it."""
        with tempfile.TemporaryFile() as file:
            file.truncate(_REGION_BYTES * len(_REGIONS))
            return os.dup(file.fileno())

    def board(self, region: str, num_columns: int) -> Board:
        """A row of `num_columns` numbers for each writer."""
        count = num_columns * self.num_writers
        if count * _NUM_BYTES > _REGION_BYTES:
            raise ValueError(f"{self.num_writers} processes × {num_columns} numbers are too many")
        return Board(self._region(region).cast("d")[:count], self.writer, num_columns)

    def integers(self, region: str) -> memoryview[int]:
        """All of a region, as 64-bit integers that any process may write."""
        return self._region(region).cast("q")

    def _region(self, name: str) -> memoryview[int]:
        start = _REGION_BYTES * _REGIONS.index(name)
        return memoryview(self._map)[start : start + _REGION_BYTES]


class Board:
    """A table of float64: each process writes one row, and reads all.

    mine: the row of this process.
    """

    def __init__(self, numbers: memoryview[float], writer: int, num_columns: int) -> None:
        self._numbers = numbers
        self._num_columns = num_columns
        self.mine = self.row(writer)

    @property
    def num_rows(self) -> int:
        return len(self._numbers) // self._num_columns

    def row(self, writer: int) -> memoryview[float]:
        """What a process has written."""
        start = writer * self._num_columns
        return self._numbers[start : start + self._num_columns]

    def total(self, column: int) -> float:
        """The sum of a column over all processes."""
        total: float = sum(self._numbers[column :: self._num_columns])
        return total
