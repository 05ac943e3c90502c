"""Ranks as threads, and ranks that fail."""

from __future__ import annotations

import threading

from vllm.worker.ranks.meeting import join_meeting
from vllm.worker.ranks.serve import serve


class ThreadRanks:
    """Stands for `Processes`: the same ranks without the seconds that a process takes to start.

    They meet, compare, connect and compute exactly as processes do.
    """

    def __init__(self, args, size, port):
        self.errors = []
        self.pids = []
        self._threads = [
            threading.Thread(target=self._serve, args=(args, port, rank, size), daemon=True)
            for rank in range(1, size)
        ]
        for thread in self._threads:
            thread.start()

    def _serve(self, args, port, rank, size):
        try:
            serve(args, join_meeting(port, rank, size), on_failure=self.errors.append)
        except BaseException as error:  # noqa: BLE001 (asserted to be none)
            self.errors.append(error)

    def are_alive(self):
        return any(thread.is_alive() for thread in self._threads)

    def find_dead(self):
        return None

    def kill(self):
        """They have heard already that there are no more steps."""
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()
        assert self.errors == []
