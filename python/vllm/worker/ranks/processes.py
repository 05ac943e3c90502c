"""The processes of the other ranks on this machine, which rank 0 starts."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Dict, List, Optional

import torch

from vllm.engine_args import EngineArgs
from vllm.worker.ranks.rank_process import RankProcess


class Processes:
    """Starts ranks 1 to `size` - 1; rank 0 is this process.

    port: of the meeting that they join, on loopback.
    """

    module = "vllm.worker.ranks.serve"

    def __init__(self, args: EngineArgs, size: int, port: int) -> None:
        environment = {**thread_variables(threads_of_each(size)), **os.environ}
        self._ranks: List[RankProcess] = []
        try:
            for rank in range(1, size):
                what = rank_arguments(args, rank, "127.0.0.1", port)
                self._ranks.append(RankProcess(self.module, what, environment))
        except BaseException:
            self.kill()
            raise

    @property
    def pids(self) -> List[int]:
        return [process.pid for process in self._ranks]

    def find_dead(self) -> Optional[str]:
        """A message about a rank that has ended; None while all run."""
        for rank, process in enumerate(self._ranks, start=1):
            how = process.ending()
            if how is not None:
                return f"rank {rank} (process {process.pid}) {how}"
        return None

    def kill(self) -> None:
        """Kills all processes, stopped ones too, and waits for them. They have nothing to save."""
        for process in self._ranks:
            process.kill()
        for process in self._ranks:
            process.wait()


def rank_arguments(
    args: EngineArgs, rank: int, address: str, port: int, local_rank: Optional[int] = None
) -> Dict[str, Any]:
    """The arguments of a rank's process (`serve.main`). See `Meeting`."""
    return {
        "args": dataclasses.asdict(args),
        "rank": rank,
        "local_rank": rank if local_rank is None else local_rank,
        "address": address,
        "port": port,
    }


def threads_of_each(size: int) -> int:
    """A rank's share of the threads that this process has."""
    return max(1, torch.get_num_threads() // size)


def thread_variables(threads: int) -> Dict[str, str]:
    return {"OMP_NUM_THREADS": str(threads), "VLLM_CPU_THREADS": str(threads)}
