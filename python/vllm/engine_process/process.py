"""Starts and ends the process of an engine."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Mapping

from vllm.engine_args import EngineArgs

# How long an engine may take to exit after `Close`; then it is killed.
END_SECONDS = 10.0
_STDERR = 2


class EngineProcess:
    """Starts an engine's process, with a folder for its sockets.

    variables: added to this process's environment variables.
    """

    module = "vllm.engine_process.main"

    def __init__(self, args: EngineArgs, variables: Mapping[str, str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="vllm-"))  # of mode 0700
        what = {
            "args": dataclasses.asdict(args),
            "folder": str(self.folder),
            "log_level": logging.getLogger("vllm").getEffectiveLevel(),
        }
        environment = {
            **os.environ,
            **variables,
            # Import modules from where this process does, and not from the current folder.
            "PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in sys.path),
            "PYTHONSAFEPATH": "1",
        }
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.module, json.dumps(what)],
                stdin=subprocess.PIPE,  # the engine ends when this end of the pipe is closed
                stdout=_STDERR,  # stdout belongs to the user's program
                env=environment,
            )
        except BaseException:
            shutil.rmtree(self.folder)
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self) -> str:
        """Waits for the process to end; returns how it ended."""
        status = self._process.wait()
        if status < 0:
            return f"its process ({self.pid}) was killed by {signal.Signals(-status).name}"
        return f"its process ({self.pid}) exited with status {status}"

    def end(self, seconds: float) -> None:
        """Waits that long for the process to exit, then kills it; deletes the folder."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        shutil.rmtree(self.folder, ignore_errors=True)
