"""The processes of the other ranks on this machine, which rank 0 starts."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import List, Optional

import torch

from vllm.engine_args import EngineArgs

_STDERR = 2


class Processes:
    """Starts ranks 1 to `size` - 1; rank 0 is this process.

    port: of the meeting that they join.
    """

    module = "vllm.worker.ranks.serve"

    def __init__(self, args: EngineArgs, size: int, port: int) -> None:
        threads = max(1, torch.get_num_threads() // size)
        environment = {
            "OMP_NUM_THREADS": str(threads),
            "VLLM_CPU_THREADS": str(threads),
            **os.environ,
            # Import modules from where this process does, and not from the current folder.
            "PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in sys.path),
            "PYTHONSAFEPATH": "1",
        }
        self._ranks: List[subprocess.Popen[bytes]] = []
        try:
            for rank in range(1, size):
                what = {"args": dataclasses.asdict(args), "rank": rank, "port": port}
                self._ranks.append(
                    subprocess.Popen(
                        [sys.executable, "-m", self.module, json.dumps(what)],
                        stdin=subprocess.DEVNULL,
                        stdout=_STDERR,  # stdout belongs to the user's program
                        env=environment,
                    )
                )
        except BaseException:
            self.kill()
            raise

    @property
    def pids(self) -> List[int]:
        return [process.pid for process in self._ranks]

    def find_dead(self) -> Optional[str]:
        """A message about a rank that has ended; None while all run."""
        for rank, process in enumerate(self._ranks, start=1):
            status = process.poll()
            if status is not None:
                how = (
                    f"was killed by {signal.Signals(-status).name}"
                    if status < 0
                    else f"exited with status {status}"
                )
                return f"rank {rank} (process {process.pid}) {how}"
        return None

    def kill(self) -> None:
        """Kills all processes, stopped ones too, and waits for them. They have nothing to save."""
        for process in self._ranks:
            process.kill()
        for process in self._ranks:
            process.wait()
