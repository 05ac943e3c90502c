"""Manages the process that renders chat templates: starts it on first use and after its end."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Mapping, Optional

MAX_SECONDS = 5  # CPU time, which does not depend on how busy the machine is
MAX_BYTES = 1 << 30
MAX_CHARACTERS = 1 << 25  # several times the longest context of any model

_WORKER = Path(__file__).with_name("template_worker.py")


class TemplateError(ValueError):
    """The template raised an error or reached a limit; the message says which."""


class TemplateSandbox:
    """Renders templates in a process with limits. Thread-safe; renders one at a time.

    max_seconds: CPU time of one rendering.
    max_bytes: address space of the process.
    max_characters: length of the rendered text.
    """

    def __init__(
        self,
        *,
        max_seconds: int = MAX_SECONDS,
        max_bytes: int = MAX_BYTES,
        max_characters: int = MAX_CHARACTERS,
    ) -> None:
        self._setup = {
            "path": sys.path,
            "seconds": max_seconds,
            "memory": max_bytes,
            "characters": max_characters,
        }
        self._lock = threading.Lock()
        self._process: Optional[subprocess.Popen[str]] = None
        self._owner = 0  # a forked child must not use the pipes of its parent

    def start(self) -> None:
        """Starts the process, which then gets ready by itself, before it is needed."""
        with self._lock:
            self._running()

    @property
    def is_busy(self) -> bool:
        """Whether `render` would wait for another rendering."""
        return self._lock.locked()

    def render(self, source: str, variables: Mapping[str, Any]) -> str:
        """Renders a template. Raises TemplateError.

        variables: JSON data.
        """
        request = json.dumps({"source": source, "variables": variables})
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(request + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except BrokenPipeError as error:  # it died after the check
                raise TemplateError(self._why_ended()) from error
            except BaseException:  # Ctrl-C: no unread answer may stay in the pipe
                self._end()
                raise
            if not line:
                raise TemplateError(self._why_ended())
        answer = json.loads(line)
        if "error" in answer:
            raise TemplateError(answer["error"])
        return str(answer["text"])

    def close(self) -> None:
        """Ends the process; the next rendering starts another."""
        with self._lock:
            if self._owner == os.getpid():
                self._end()

    def _running(self) -> subprocess.Popen[str]:
        if self._owner != os.getpid():  # this process was forked: the worker belongs to its parent
            self._process = None
        elif self._process is not None and self._process.poll() is not None:
            self._end()
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(_WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                encoding="utf-8",
                env={name: os.environ[name] for name in ("TZ",) if name in os.environ},
                start_new_session=True,  # Ctrl-C in a terminal must not reach it
            )
            self._owner = os.getpid()
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(self._setup) + "\n")
        return self._process

    def _why_ended(self) -> str:
        process = self._process
        assert process is not None
        status = process.wait()
        self._end()
        if status == -signal.SIGXCPU:
            return f"it took more than {self._setup['seconds']} seconds of CPU time"
        return f"the process that renders it exited with status {status}"

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


SANDBOX = TemplateSandbox()
atexit.register(SANDBOX.close)
