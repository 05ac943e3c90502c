"""Ranks as threads of one process, which exchange tensors in memory."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, List, Optional

import torch

from vllm.parallel.group import Group


class Exchange:
    """Where the ranks of one group meet."""

    def __init__(self, size: int) -> None:
        self._barrier = threading.Barrier(size, timeout=60)
        self._tensors: List[Any] = [None] * size

    def all(self, rank: int, tensor: torch.Tensor) -> List[torch.Tensor]:
        """The tensors of all ranks."""
        self._tensors[rank] = tensor.clone()
        self._barrier.wait()
        tensors = list(self._tensors)
        self._barrier.wait()
        return tensors


class ThreadGroup(Group):
    def __init__(self, rank: int, size: int, exchange: Exchange) -> None:
        super().__init__(rank, size)
        self._exchange = exchange

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        return torch.stack(self._exchange.all(self.rank, tensor)).sum(0)

    def broadcast(self, tensor: torch.Tensor) -> None:
        tensor.copy_(self._exchange.all(self.rank, tensor)[0])

    def gather(self, tensor: torch.Tensor) -> Optional[torch.Tensor]:
        tensors = self._exchange.all(self.rank, tensor)
        return None if self.rank else torch.cat(tensors, dim=-1)


def groups(size: int) -> List[ThreadGroup]:
    """The ranks of one group."""
    exchange = Exchange(size)
    return [ThreadGroup(rank, size, exchange) for rank in range(size)]


def run_ranks(size: int, call: Callable[[ThreadGroup], Any]) -> List[Any]:
    """What `call` returns in each rank, all running at once."""
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(call, groups(size)))
