"""Ends the compilers of a build whose own process was killed.

They would go on writing to a folder whose lock is free. Every process of a build inherits a
variable that names its lock and the build, by which it is found. (A process group does not serve: a
backend shares that of pip. Nor does a parent-death signal: only children get it, not the compilers
below them, and already when the thread that started them ends.)

A process that looks on ends them as soon as the build's own is gone; the next holder of the lock
ends those that outlived both. Linux only: elsewhere nothing is compiled.
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
PATIENCE = 10.0  # seconds until a killed process has to be gone


@contextmanager
def marked(lock: Path) -> Iterator[dict[str, str]]:
    """A variable for the environment of the processes of a build, which end with it.

    At the end, and also if this process is killed, every process that has it is ended.
    """
    value = f"{lock}#{os.getpid()}-{time.monotonic_ns()}"
    if sys.platform != "linux":
        yield {}
        return
    # It waits for the end of its input, which comes when this process closes it or is no more. In a
    # session of its own, so that what ends this process and its group leaves it alone.
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
    """Ends what earlier builds that held `lock` left running; returns how many processes.

    For the holder of the lock alone: no build that has it is at work.
    """
    return _end(f"{lock}#", exactly=False)


def _end(value: str, *, exactly: bool) -> int:
    ended: set[int] = set()
    deadline = time.monotonic() + PATIENCE
    # Again until there is none: one may start another while we look.
    while time.monotonic() < deadline:
        found = [pid for pid in _find(value, exactly) if _kill(pid)]
        if not found:
            break
        ended.update(found)
        time.sleep(0.02)
    return len(ended)


def _find(value: str, exactly: bool) -> Iterator[int]:
    """The processes whose variable has, or begins with, `value`: not this one and those above."""
    word = os.fsencode(f"{VARIABLE}={value}")
    spared = set(_lineage())
    for entry in PROC.iterdir() if PROC.is_dir() else ():
        if entry.name.isdecimal() and int(entry.name) not in spared:
            try:
                variables = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue  # it has ended, or is another user's
            if word in variables if exactly else any(v.startswith(word) for v in variables):
                yield int(entry.name)


def _lineage() -> Iterator[int]:
    """This process, its parent, and so on up."""
    pid = os.getpid()
    while pid > 0:
        yield pid
        try:
            status = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return
        pid = int(status.rpartition(")")[2].split()[1])  # the name before it may hold anything


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    sys.stdin.buffer.read()
    _end(sys.argv[1], exactly=True)
