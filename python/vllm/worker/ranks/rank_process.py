"""Starts and ends one rank's process. Does not import torch, because Ray's actors use it too."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Mapping, Optional

from vllm.processes import ending, import_paths

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
            env={**variables, **import_paths()},
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ending(self) -> Optional[str]:
        """How it has ended; None while it runs."""
        status = self._process.poll()
        return None if status is None else ending(status)

    def wait(self) -> str:
        """Waits for its end; returns how it ended."""
        return ending(self._process.wait())

    def kill(self) -> None:
        """Kills it, even if it is stopped. It has nothing to save."""
        self._process.kill()
