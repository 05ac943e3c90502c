"""Collectives on CPU tensors, through torch.distributed and gloo."""

from __future__ import annotations

import contextlib
import os
from datetime import timedelta
from typing import Any, Iterator, Optional

import torch
from torch import distributed as dist

from vllm.parallel.group import Group


class LostPeerError(RuntimeError):
    """An exchange failed because another rank did not take part. The reason is unknown here."""


class TorchGroup(Group):
    """A group that uses a process group of torch.distributed.

    entered: exchanges (collectives) that this rank has begun.
    waiting: whether it is in one now. It waits for the ranks that have begun fewer.

    Exchanges raise LostPeerError.
    """

    def __init__(self, process_group: Any) -> None:  # torch's stubs lack its base class
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
    """Connects the ranks by gloo, for CPU tensors; returns when all of them are connected.

    store: where they find each other; used only by this group (see `dist.PrefixStore`).
    timeout: an exchange that takes longer fails.
    address: where the others reach this rank. `GLOO_SOCKET_IFNAME` overrides it, unless it is
        loopback.

    It does not use the process's default group, which belongs to the user.
    """
    if "GLOO_SOCKET_IFNAME" in os.environ and address != "127.0.0.1":
        return TorchGroup(dist.ProcessGroupGloo(store, rank, size, timeout))
    options: Any = dist.ProcessGroupGloo._Options()  # type: ignore[attr-defined]
    options._devices = [dist.ProcessGroupGloo.create_device(hostname=address)]
    options._timeout = timeout
    return TorchGroup(dist.ProcessGroupGloo(store, rank, size, options))
