"""Starts the processes of ranks on the nodes of a Ray cluster, and detects that one has ended."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, List, Mapping, Optional

import torch

from vllm.engine_args import EngineArgs
from vllm.worker.ranks.processes import rank_arguments, thread_variables, threads_of_each
from vllm.worker.ranks.ray_cluster import Placement, Reservation, answers, reason

# How long nodes may take at the end to report that their rank has ended. A node itself may be lost:
# then its rank detects that the others have ended.
_END_SECONDS = 0.5
_LOOPBACK = "127.0.0.1"


class RayRanks:
    """Reserves places for `size` ranks, the first of which is this process; `start` starts others.

    address: of this node, at which the others reach rank 0; loopback if all are on this node.
    device: of rank 0.

    Raises what `Reservation` raises.
    """

    module = "vllm.worker.ranks.serve"

    def __init__(self, size: int, device: torch.device) -> None:
        self._threads = threads_of_each(size)
        self._reserved: Optional[Reservation] = None
        self._reserved = made = Reservation(size, device.type == "cuda", self._threads)
        self.pids: List[int] = []  # of ranks 1 and up, each on its node
        self._endings: List[Any] = []  # calls of their actors that return how they ended
        alone = {placement.node for placement in made.placements} == {made.here}
        self.address = _LOOPBACK if alone else made.addresses[made.here]
        self.device = _device(device, made.placements[0], os.environ)

    def start(self, args: EngineArgs, port: int) -> None:
        """Starts ranks 1 and up. port: where they find the meeting, at `address`."""
        reserved = self._reserved
        assert reserved is not None
        if Path(args.model).is_dir():  # otherwise a hub id, which each node looks up
            args = dataclasses.replace(args, model=str(Path(args.model).absolute()))
        starting = []
        for rank, (actor, placement) in enumerate(zip(reserved.actors, reserved.placements)):
            if rank:
                what = rank_arguments(args, rank, self.address, port, placement.local_rank)
                variables = thread_variables(self._threads)
                if placement.gpus:  # of all ranks on the node, for access to their memory
                    variables["CUDA_VISIBLE_DEVICES"] = ",".join(placement.gpus)
                starting.append(actor.start.remote(self.module, what, variables))
        self.pids = answers(starting)
        self._endings = [actor.wait.remote() for actor in reserved.actors[1:]]

    def find_dead(self) -> Optional[str]:
        """A message about a rank that has ended; None while all run."""
        import ray

        reserved = self._reserved
        if reserved is None or not self._endings:
            return None
        ended, _ = ray.wait(self._endings, timeout=0)
        if not ended:
            return None
        rank = self._endings.index(ended[0]) + 1
        address = reserved.addresses[reserved.placements[rank].node]
        which = f"rank {rank} (process {self.pids[rank - 1]} on {address})"
        try:
            return f"{which} {ray.get(ended[0])}"
        except ray.exceptions.RayError as error:
            return f"{which} has lost its actor: {reason(error)}"

    def kill(self) -> None:
        """Kills all processes, stopped ones too, and releases their resources of the cluster."""
        import ray

        reserved, self._reserved = self._reserved, None
        if reserved is None:
            return
        killing = [actor.kill.remote() for actor in reserved.actors[1:]] + self._endings
        if killing:
            ray.wait(killing, num_returns=len(killing), timeout=_END_SECONDS)
        reserved.release()


def _device(
    device: torch.device, placement: Placement, environment: Mapping[str, str]
) -> torch.device:
    """The device of rank 0: the GPU that Ray has reserved for it, by this process's numbering."""
    if device.type != "cuda":
        return device
    gpu, visible = placement.gpus[0], environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return torch.device("cuda", int(gpu))
    if gpu not in visible.split(","):
        raise ValueError(
            f"Ray has reserved GPU {gpu} for rank 0, which is this process, but "
            f"CUDA_VISIBLE_DEVICES is {visible!r} here: unset it, or start Ray with the same value"
        )
    return torch.device("cuda", visible.split(",").index(gpu))
