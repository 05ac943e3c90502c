"""One build at a time in a build folder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console


@contextmanager
def locked(folder: Path, console: Console) -> Iterator[None]:
    """Holds the lock of `folder`, after waiting for it aloud; it ends with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print(f"waiting for another build in {folder}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
