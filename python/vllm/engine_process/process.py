"""Starts and ends the process of an engine."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Callable, Mapping

from vllm.engine_args import EngineArgs
from vllm.processes import ending, import_paths

# How long an engine may take to exit after `Close`; then it is killed.
END_SECONDS = 10.0
_STDERR = 2


class EngineProcess:
    """Starts an engine's process, with a folder for its sockets.

    variables: added to this process's environment variables.
    num_clients: how many processes send it requests.
    """

    module = "vllm.engine_process.main"

    def __init__(
        self, args: EngineArgs, variables: Mapping[str, str], num_clients: int = 1
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="vllm-"))  # of mode 0700
        what = {
            "args": dataclasses.asdict(args),
            "folder": str(self.folder),
            "num_clients": num_clients,
            "log_level": logging.getLogger("vllm").getEffectiveLevel(),
        }
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.module, json.dumps(what)],
                stdin=subprocess.PIPE,  # the engine ends when this end of the pipe is closed
                stdout=_STDERR,  # stdout belongs to the user's program
                env={**os.environ, **variables, **import_paths()},
            )
        except BaseException:
            shutil.rmtree(self.folder)
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self) -> str:
        """Waits for the process to end; returns how it ended."""
        return how_ended(self._process)

    def end(self, seconds: float) -> None:
        """Waits that long for the process to exit, then kills it; deletes the folder."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        shutil.rmtree(self.folder, ignore_errors=True)  # ZeroMQ may be deleting its sockets


def how_ended(process: subprocess.Popen[bytes]) -> str:
    """Waits for a process to end."""
    return f"its process ({process.pid}) {ending(process.wait())}"


def watched(wait: Callable[[], str]) -> asyncio.Future[str]:
    """A future of the running event loop with the result of `wait`, which a thread calls."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[str] = loop.create_future()

    def set_ended(how: str) -> None:
        if not ended.done():
            ended.set_result(how)

    def watch() -> None:
        how = wait()
        with contextlib.suppress(RuntimeError):  # the event loop is closed
            loop.call_soon_threadsafe(set_ended, how)

    threading.Thread(target=watch, name="vllm-process-watch", daemon=True).start()
    return ended
