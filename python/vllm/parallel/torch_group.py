"""Ranks that exchange tensors of the CPU, through torch.distributed and gloo."""

from __future__ import annotations

import contextlib
import os
from datetime import timedelta
from typing import Any, Iterator, Optional

import torch
from torch import distributed as dist

from vllm.parallel.group import Group


class LostPeerError(RuntimeError):
    """Another rank did not take part in an exchange. Why, this rank does not know."""


class TorchGroup(Group):
    """A group whose exchanges are those of a process group of torch.distributed.

    entered: exchanges that this rank has begun.
    waiting: whether it is in one now. Where one rank waits and another has begun fewer, the
        other is what it waits for.

    Exchanges raise LostPeerError.
    """

    def __init__(self, process_group: Any) -> None:  # stubs take ProcessGroupGloo for none
        super().__init__(process_group.rank(), process_group.size())
        self.entered = 0
        self.waiting = False
        self._group = process_group

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.contiguous()
        with self._exchange():
            self._group.allreduce([tensor], dist.AllreduceOptions()).wait()
        return tensor

    def gather(self, tensor: torch.Tensor) -> Optional[torch.Tensor]:
        tensor = tensor.contiguous()
        parts = [torch.empty_like(tensor) for _ in range(self.size)] if self.rank == 0 else []
        options = dist.GatherOptions()
        options.rootRank = 0
        with self._exchange():
            self._group.gather([parts] if parts else [], [tensor], options).wait()
        return torch.cat(parts, dim=-1) if parts else None

    def broadcast(self, tensor: torch.Tensor) -> None:
        options = dist.BroadcastOptions()
        options.rootRank = 0
        with self._exchange():
            self._group.broadcast([tensor], options).wait()

    @contextlib.contextmanager
    def _exchange(self) -> Iterator[None]:
        self.entered += 1
        self.waiting = True
        try:
            yield
        except RuntimeError as error:
            raise LostPeerError(f"exchange {self.entered} between ranks: {error}") from error
        finally:
            self.waiting = False


def connect_gloo(
    store: dist.Store, rank: int, size: int, *, timeout: timedelta, address: str
) -> TorchGroup:
    """Connects the ranks by gloo, for tensors of the CPU; returns when all of them are there.

    store: where they find each other; of this group alone (see `dist.PrefixStore`).
    timeout: an exchange that takes longer fails.
    address: where the others reach this one. `GLOO_SOCKET_IFNAME` comes before it, but for
        loopback, which is reached from this machine alone.

    A process group of its own, not the default one of the process: that is the user's.
    """
    if "GLOO_SOCKET_IFNAME" in os.environ and address != "127.0.0.1":
        return TorchGroup(dist.ProcessGroupGloo(store, rank, size, timeout))
    options: Any = dist.ProcessGroupGloo._Options()  # type: ignore[attr-defined]
    options._devices = [dist.ProcessGroupGloo.create_device(hostname=address)]
    options._timeout = timeout
    return TorchGroup(dist.ProcessGroupGloo(store, rank, size, options))
