"""Kills the compilers of a build whose own process was killed.

They would keep writing to a folder whose lock is free. Every process of a build inherits an
environment variable that names its lock and the build, by which it is found. (A process group is no
alternative: a backend shares pip's. Nor is a parent-death signal: only direct children get it, and
already when the thread that started them ends.)

A watcher process kills them as soon as the build's own is gone; the next holder of the lock kills
those that outlived both. Linux only: elsewhere nothing is compiled.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "VLLM_BUILD_OF"
PROC = Path("/proc")
PATIENCE = 10.0  # seconds to wait for killed processes


@contextmanager
def marked(lock: Path) -> Iterator[dict[str, str]]:
    """Yields an environment variable for the processes of a build, which are killed with it.

    At the end, and also if this process is killed, every process that has it is killed.
    """
    value = f"{lock}#{os.getpid()}-{time.monotonic_ns()}"
    if sys.platform != "linux":
        yield {}
        return
    # The watcher waits for the end of its stdin: this process closes it, or ends. It has its own
    # session, so that a signal to this process's group does not reach it.
    watcher = subprocess.Popen(
        [sys.executable, "-I", __file__, value],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield {VARIABLE: value}
    finally:
        watcher.communicate()


def end_orphans(lock: Path) -> int:
    """Kills processes that earlier builds with `lock` left running; returns how many.

    Only for the holder of the lock: no other build with it is running.
    """
    return _end(f"{lock}#", exactly=False)


def _end(value: str, *, exactly: bool) -> int:
    ended: set[int] = set()
    deadline = time.monotonic() + PATIENCE
    # Repeated until none is found: one may start another meanwhile.
    while time.monotonic() < deadline:
        found = [pid for pid in _find(value, exactly) if _kill(pid)]
        if not found:
            break
        ended.update(found)
        time.sleep(0.02)
    return len(ended)


def _find(value: str, exactly: bool) -> Iterator[int]:
    """The processes whose variable is, or begins with, `value`, except this one's ancestors."""
    word = os.fsencode(f"{VARIABLE}={value}")
    spared = set(_lineage())
    for entry in PROC.iterdir() if PROC.is_dir() else ():
        if entry.name.isdecimal() and int(entry.name) not in spared:
            try:
                variables = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue  # it has ended, or belongs to another user
            if word in variables if exactly else any(v.startswith(word) for v in variables):
                yield int(entry.name)


def _lineage() -> Iterator[int]:
    """This process, its parent, and so on."""
    pid = os.getpid()
    while pid > 0:
        yield pid
        try:
            status = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return
        pid = int(status.rpartition(")")[2].split()[1])  # the name before it may contain anything


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    sys.stdin.buffer.read()
    _end(sys.argv[1], exactly=True)
