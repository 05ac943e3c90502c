"""Waits for what other processes and threads do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

# Seconds, for what takes a few: on a busy machine it may take a hundred. Only what never comes
# takes as long as this.
PATIENCE = 300


def until(holds: Callable[[], bool], what: str) -> None:
    """Waits until `holds()` is true; fails with `what` if it stays false."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def until_gone(pids: Iterable[int]) -> None:
    """Waits for the end of processes."""
    pids = tuple(pids)
    until(lambda: not any(map(is_there, pids)), f"one of the processes {pids} has not ended")


def is_there(pid: int) -> bool:
    """Whether a process runs. A zombie does not: its parent has to reap it, and may be stopped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it ended before it was opened, or was read
        return False
