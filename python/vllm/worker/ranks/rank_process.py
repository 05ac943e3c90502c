"""Starts and ends one rank's process. Does not import torch, because Ray's actors use it too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Mapping, Optional

_STDERR = 2


class RankProcess:
    """Starts a module with the interface of `serve.main`.

    what: its arguments (`rank_arguments`), as JSON values.
    variables: its environment variables.
    """

    def __init__(self, module: str, what: Mapping[str, Any], variables: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(what)],
            stdin=subprocess.DEVNULL,
            stdout=_STDERR,  # stdout belongs to the user's program
            env={
                **variables,
                # Import modules from where this process does, and not from the current folder.
                "PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in sys.path),
                "PYTHONSAFEPATH": "1",
            },
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ending(self) -> Optional[str]:
        """How it has ended; None while it runs."""
        status = self._process.poll()
        return None if status is None else _ending(status)

    def wait(self) -> str:
        """Waits for its end; returns how it ended."""
        return _ending(self._process.wait())

    def kill(self) -> None:
        """Kills it, even if it is stopped. It has nothing to save."""
        self._process.kill()


def _ending(status: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"exited with status {status}"
