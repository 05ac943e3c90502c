"""What this library's own processes have in common: imports, ends, and the end of a parent."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Dict


def import_paths() -> Dict[str, str]:
    """Environment variables of a process of ours: it imports modules from where this process does,
    and not from the current folder."""
    paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path)
    return {"PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}


def ending(status: int) -> str:
    """How a process has ended, by its return code: "was killed by SIGKILL"."""
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"exited with status {status}"


def end_with_parent() -> None:
    """Ends this process when its parent has ended, which closes the pipe to stdin."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, name="vllm-parent-watch", daemon=True).start()
