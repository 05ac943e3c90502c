"""Temporary folders and files, removed at the end, or at the next start after a crash.

A killed process removes nothing. Names contain the process id, so that the next process can remove
those whose process is gone.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

PREFIX = ".unfinished-"
# It belongs to another user; another process is removing it now; a program that the killed process
# has started still writes to it.
_STAYS = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTEMPTY)


@contextmanager
def folder(prefix: str = PREFIX, parent: Optional[Path] = None) -> Iterator[Path]:
    """A new temporary folder in `parent`, by default the system's."""
    parent = parent or Path(tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent, prefix)
    with tempfile.TemporaryDirectory(prefix=f"{prefix}{os.getpid()}-", dir=parent) as name:
        yield Path(name)


def write_atomically(path: Path, data: bytes) -> None:
    """Replaces `path`; if interrupted, it holds the old content or all of the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    unfinished = path.with_name(f"{PREFIX}{os.getpid()}-{path.name}")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """Removes a folder with all that is in it, if it exists.

    Raises:
      OSError: something of it stays.
    """
    if folder.exists():
        shutil.rmtree(folder)


def sweep(parent: Path, prefix: str = PREFIX) -> None:
    """Removes temporary files in `parent` whose process no longer exists.

    Raises:
      OSError: one cannot be removed, for a reason that is not in `_STAYS`.
    """
    for path in parent.glob(f"{prefix}*"):
        owner = re.match(r"(\d+)-", path.name[len(prefix) :])
        if owner is not None and not _is_alive(int(owner[1])):
            try:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            except OSError as error:
                if error.errno not in _STAYS:
                    raise


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it exists, and belongs to another user
    return True
