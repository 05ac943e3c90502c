"""One build at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ci import processes


@contextmanager
def locked(lock: Path, say: Callable[[str], None]) -> Iterator[dict[str, str]]:
    """Holds the lock of that file, after waiting for it aloud; it ends with the process.

    Yields a variable for the environment of the build's processes, by which they are ended with it.
    What an earlier build that was killed left running is ended first.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":  # has no such lock, and nothing is compiled there
        yield {}
        return
    import fcntl

    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another build in {lock.parent} to end")
            fcntl.flock(file, fcntl.LOCK_EX)
        orphans = processes.end_orphans(lock)
        if orphans:
            say(f"ended {orphans} processes that a build that was killed had left")
        with processes.marked(lock) as mark:
            yield mark
