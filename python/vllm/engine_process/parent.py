"""The end of a process whose parent has ended."""

from __future__ import annotations

import os
import sys
import threading


def end_with_parent() -> None:
    """Ends this process when its parent has ended, which closes the pipe to stdin."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, name="vllm-parent-watch", daemon=True).start()
