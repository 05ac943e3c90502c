"""The progress of a build: its display, failures and interruption."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from ci.builder.progress import Failed, run_with_progress
from tests.waiting import until_gone

STEPS = """\
print('-- Configuring done')
print('[0/2] Re-checking globbed directories...')
print('[1/2] Building CXX object CMakeFiles/_C.dir/csrc/bindings.cpp.o')
print('[2/2] Building CUDA cu121 sm_80/rms_norm.cubin')
"""


def follow(code: str, *, terminal: bool = False) -> str:
    """What a person sees of a program that runs `code`."""
    console = Console(file=io.StringIO(), width=100, force_terminal=terminal)
    command = [sys.executable, "-u", "-c", code]
    run_with_progress(command, None, os.environ, "compiling", console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_plain_lines_where_there_is_no_terminal() -> None:
    assert follow(STEPS).splitlines() == [
        "compiling: 1/2 in 0 s: csrc/bindings.cpp",
        "compiling: 2/2 in 0 s: cu121 sm_80/rms_norm.cubin",
    ]


def test_a_bar_on_a_terminal() -> None:
    shown = follow(STEPS, terminal=True)
    for word in ("compiling", "2/2", "cu121 sm_80/rms_norm.cubin", "0:00:0"):
        assert word in shown


def test_a_failure_carries_all_that_was_printed() -> None:
    code = "import sys; print('[1/9] first'); print('error: wrong', file=sys.stderr); sys.exit(3)"
    with pytest.raises(Failed) as caught:
        follow(code)
    assert caught.value.status == 3
    assert sorted(caught.value.output.splitlines()) == ["[1/9] first", "error: wrong"]


def test_output_may_be_binary() -> None:
    follow("import sys; sys.stdout.buffer.write(b'[1/1] \\xff\\n')")


def test_an_interrupted_build_kills_its_compilers(tmp_path: Path) -> None:
    """The program starts another, as ninja starts compilers, and both must end."""
    mark = tmp_path / "pid"
    code = (
        "import subprocess, sys, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(mark)!r}).write_text(str(child.pid))\n"
        "print('[1/2] started', flush=True)\n"
        "child.wait()\n"
    )

    def interrupt() -> None:
        while not mark.exists() or not mark.read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        follow(code)
    until_gone([int(mark.read_text())])
