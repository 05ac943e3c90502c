"""One build at a time."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from ci.builder.lock import locked

OTHER = """\
import pathlib, sys
from rich.console import Console
from ci.builder.lock import locked
with locked(pathlib.Path(sys.argv[1]), Console(width=200)):
    print("entered")
"""


def test_a_second_build_waits_aloud_for_the_first(tmp_path: Path) -> None:
    command = [sys.executable, "-u", "-c", OTHER, str(tmp_path / "build")]
    with locked(tmp_path / "build", Console(quiet=True)):
        other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        first = other.stdout.readline()
        assert other.poll() is None
    assert first == f"waiting for another build in {tmp_path / 'build'}\n"
    assert other.communicate(timeout=60)[0] == "entered\n"


def test_the_lock_is_free_again(tmp_path: Path) -> None:
    console = Console(file=io.StringIO())
    for _ in range(2):
        with locked(tmp_path, console):
            pass
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == ""
