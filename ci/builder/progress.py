"""Runs a build and shows what it compiles, how much is left and how long it has taken."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

NINJA_STEP = re.compile(r"\[(\d+)/(\d+)\] (.*)")
# CMake's terms, removed from progress lines so that they show source files.
NOISE = re.compile(r"Building (?:CXX object|CUDA) |CMakeFiles/_C\.dir/|\.o$")
PLAIN_INTERVAL = 5.0  # seconds between lines where there is no terminal


class Failed(Exception):
    """The program ended with an error; `output` is all that it printed."""

    def __init__(self, status: int, output: str) -> None:
        super().__init__(f"exit status {status}")
        self.status, self.output = status, output


def _captured(environ: Mapping[str, str]) -> dict[str, Any]:
    """Options of `subprocess`: no input, and stdout and stderr read as one text."""
    return {
        "env": dict(environ),
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
        "errors": "replace",
    }


def run_quietly(
    command: Sequence[str], cwd: Path, environ: Mapping[str, str], **options: Any
) -> str:
    """Runs `command` and returns all that it printed; `options` go to `subprocess.run`.

    Raises Failed with the output.
    """
    done = subprocess.run(command, cwd=cwd, check=False, **_captured(environ), **options)
    output = str(done.stdout)
    if done.returncode:
        raise Failed(done.returncode, output)
    return output


def run_with_progress(
    command: Sequence[str],
    cwd: Optional[str],
    environ: Mapping[str, str],
    title: str,
    console: Console,
) -> None:
    """Runs `command` and follows the ninja steps in what it prints.

    Raises Failed with the output. When interrupted, ends the program and all that it started.
    """
    output: list[str] = []
    with (
        subprocess.Popen(
            command,
            cwd=cwd,
            # A separate session, so that its compilers can be killed with it.
            start_new_session=True,
            **_captured(environ),
        ) as process,
        _Display(title, console) as display,
    ):
        assert process.stdout is not None  # stdout=PIPE
        try:
            for line in process.stdout:
                output.append(line)
                display.show(line.rstrip())
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            raise
    if process.returncode:
        raise Failed(process.returncode, "".join(output).rstrip())


class _Display:
    """A progress bar on a terminal, a line now and then elsewhere."""

    def __init__(self, title: str, console: Console) -> None:
        self._title, self._console = title, console
        self._start = time.monotonic()
        self._last_line = 0.0
        columns = [
            SpinnerColumn(),
            TextColumn("{task.fields[title]}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        ]
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._progress.add_task("configuring", total=None, title=title)

    def __enter__(self) -> _Display:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, line: str) -> None:
        step = NINJA_STEP.match(line)
        if step is None:
            return
        done, total = int(step[1]), int(step[2])
        if done == 0:
            return  # CMake checking for new sources
        what = NOISE.sub("", step[3])
        self._progress.update(self._task, completed=done, total=total, description=what)
        now = time.monotonic()
        if not self._console.is_terminal and (
            now - self._last_line >= PLAIN_INTERVAL or done == total
        ):
            self._last_line = now
            self._console.print(
                f"{self._title}: {done}/{total} in {now - self._start:.0f} s: {what}", markup=False
            )
