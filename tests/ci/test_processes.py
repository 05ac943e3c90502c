"""A killed build's compilers are killed with it, or else at the start of the next build."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ci import processes
from ci.lock import locked
from tests.waiting import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing is compiled elsewhere")

# A build: it starts a program that starts another, as ninja starts compilers, and waits.
COMPILER = "import time; print('compiling', flush=True); time.sleep(100_000)"
NINJA = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {COMPILER!r}])"
BUILD = f"""\
import os, pathlib, subprocess, sys
from ci.lock import locked
with locked(pathlib.Path(sys.argv[1]), print) as mark:
    subprocess.run([sys.executable, "-c", {NINJA!r}], env={{**os.environ, **mark}})
"""


def start(lock: Path) -> subprocess.Popen[str]:
    """A build, once its compiler runs."""
    command = [sys.executable, "-u", "-c", BUILD, str(lock)]
    build = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert build.stdout is not None
    assert build.stdout.readline() == "compiling\n"
    return build


def running(lock: Path) -> list[int]:
    """The programs that builds with this lock have started."""
    return list(processes._find(f"{lock}#", exactly=False))


def ended(build: subprocess.Popen[str], lock: Path) -> None:
    """Waits until a build and all that it started is gone; what is left is ended, and an error."""
    try:
        build.communicate(timeout=PATIENCE)  # the compilers have its output
    except subprocess.TimeoutExpired:
        for pid in running(lock):
            os.kill(pid, signal.SIGKILL)
        build.communicate()
        raise
    assert running(lock) == []


def watcher_of(build: subprocess.Popen[str]) -> int:
    children = Path(f"/proc/{build.pid}/task/{build.pid}/children").read_text().split()
    (found,) = (int(pid) for pid in children if b"-I" in Path(f"/proc/{pid}/cmdline").read_bytes())
    return found


def test_compilers_are_killed_with_their_build(tmp_path: Path) -> None:
    build = start(tmp_path / "lock")
    assert len(running(tmp_path / "lock")) == 2
    build.kill()
    ended(build, tmp_path / "lock")


def test_the_next_build_kills_what_outlived_the_watcher(tmp_path: Path) -> None:
    lock, other = tmp_path / "lock", tmp_path / "lock2"
    build, of_others = start(lock), start(other)
    os.kill(watcher_of(build), signal.SIGKILL)
    build.kill()
    build.wait()
    assert build.stdout is not None
    build.stdout.close()
    assert len(running(lock)) == 2
    said: list[str] = []
    with locked(lock, said.append):
        assert said == ["killed 2 processes that an interrupted build had left running"]
        assert running(lock) == []
    assert len(running(other)) == 2
    of_others.kill()
    ended(of_others, other)


def test_a_build_that_ends_by_an_error_leaves_nothing_running(tmp_path: Path) -> None:
    build = start(tmp_path / "lock")
    build.send_signal(signal.SIGINT)
    ended(build, tmp_path / "lock")
    assert build.returncode != 0


def test_a_watcher_leaves_the_next_build_alone(tmp_path: Path) -> None:
    """Its own build's processes are marked in another way."""
    first = start(tmp_path / "lock")
    first.kill()
    second = start(tmp_path / "lock")
    first.communicate(timeout=PATIENCE)
    assert second.poll() is None
    assert len(running(tmp_path / "lock")) == 2
    second.kill()
    ended(second, tmp_path / "lock")
