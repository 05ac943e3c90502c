"""One build at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ci import processes


@contextmanager
def locked(lock: Path, say: Callable[[str], None]) -> Iterator[dict[str, str]]:
    """Holds an exclusive lock on a file, which ends with the process; says so if it has to wait.

    Kills processes that an earlier, killed build left running. Yields an environment variable for
    the processes of this build, so that they are found and killed with it (`ci.processes`).
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":  # no flock, and nothing is compiled there
        yield {}
        return
    import fcntl

    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another build in {lock.parent} to finish")
            fcntl.flock(file, fcntl.LOCK_EX)
        orphans = processes.end_orphans(lock)
        if orphans:
            say(f"killed {orphans} processes that an interrupted build had left running")
        with processes.marked(lock) as mark:
            yield mark
