"""Folders and files for what is not finished: removed at the end, or at the next start.

A process that is killed removes nothing. The names carry its id, so that whoever makes the next one
removes those of processes that are gone.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Optional

PREFIX = ".unfinished-"


@contextmanager
def folder(prefix: str = PREFIX, parent: Optional[Path] = None) -> Iterator[Path]:
    """A new folder in `parent`, by default the system's for temporary files."""
    parent = parent or Path(tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent, prefix)
    with tempfile.TemporaryDirectory(prefix=f"{prefix}{os.getpid()}-", dir=parent) as name:
        yield Path(name)


def write_atomically(path: Path, data: bytes) -> None:
    """Leaves at `path` the old file or the whole new one, whenever it is interrupted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    unfinished = path.with_name(f"{PREFIX}{os.getpid()}-{path.name}")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def sweep(parent: Path, prefix: str = PREFIX) -> None:
    """Removes what processes that are gone left in `parent`."""
    for path in parent.glob(f"{prefix}*"):
        owner = re.match(r"(\d+)-", path.name[len(prefix) :])
        if owner is not None and not _is_alive(int(owner[1])):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)  # another user's cannot be removed
            else:
                with suppress(OSError):
                    path.unlink()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it is another user's
    return True
