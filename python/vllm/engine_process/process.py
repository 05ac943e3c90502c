"""The process of an engine, as its client sees it: how it starts, and how it ends."""

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

# What an engine that was told to end may take for it; then it is ended.
END_SECONDS = 10.0
_STDERR = 2


class EngineProcess:
    """One process, and the folder of its sockets. Starts it.

    variables: of its environment, beside those of this process.
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
            # Modules are where this process has found its own, and not in the current folder.
            "PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in sys.path),
            "PYTHONSAFEPATH": "1",
        }
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.module, json.dumps(what)],
                stdin=subprocess.PIPE,  # the engine ends when this end is closed
                stdout=_STDERR,  # what this process prints may be read by others
                env=environment,
            )
        except BaseException:
            shutil.rmtree(self.folder)
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self) -> str:
        """How it has ended, once it has."""
        status = self._process.wait()
        if status < 0:
            return f"its process ({self.pid}) was ended by {signal.Signals(-status).name}"
        return f"its process ({self.pid}) has ended with status {status}"

    def end(self, seconds: float) -> None:
        """Waits for its end for that long, and ends it then."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        shutil.rmtree(self.folder, ignore_errors=True)
