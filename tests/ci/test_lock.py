"""One build at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ci.lock import locked
from tests.waiting import PATIENCE

OTHER = """\
import pathlib, sys
from ci.lock import locked
with locked(pathlib.Path(sys.argv[1]), print):
    print("entered")
"""


def test_a_second_build_waits_for_the_first_and_says_so(tmp_path: Path) -> None:
    lock = tmp_path / "build" / ".lock"
    command = [sys.executable, "-u", "-c", OTHER, str(lock)]
    with locked(lock, print):
        other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        first = other.stdout.readline()
        assert other.poll() is None
    assert first == f"waiting for another build in {lock.parent} to finish\n"
    assert other.communicate(timeout=PATIENCE)[0] == "entered\n"


def test_the_lock_is_free_again(tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        with locked(tmp_path / "lock", said.append):
            pass
    assert said == []
