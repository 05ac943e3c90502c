"""The collectives of a model's ranks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Optional

from vllm import ops

if TYPE_CHECKING:
    import torch


class Group(ABC):
    """The processes that a model is divided among: `size` of them; this one is `rank`.

    All ranks must call the same methods in the same order, with tensors of the same shape and
    dtype.
    """

    def __init__(self, rank: int, size: int) -> None:
        if not 0 <= rank < size:
            raise ValueError(f"rank must be from 0 to {size - 1} in a group of {size}, got {rank}")
        self.rank = rank
        self.size = size

    @abstractmethod
    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of the ranks' tensors; the memory of `tensor` may be reused for it."""

    def add_norm(
        self, delta: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, epsilon: float
    ) -> torch.Tensor:
        """Adds the sum of the ranks' deltas to residual, in place; returns the RMS norm of that.

        The memory of `delta` may be reused for the result. See `ops.fused_add_rms_norm`.
        """
        delta = self.all_reduce(delta)
        ops.fused_add_rms_norm(delta, residual, weight, epsilon)
        return delta

    @abstractmethod
    def broadcast(self, tensor: torch.Tensor) -> None:
        """Overwrites the tensor with rank 0's."""

    @abstractmethod
    def gather(self, tensor: torch.Tensor) -> Optional[torch.Tensor]:
        """In rank 0, the ranks' tensors concatenated along the last dimension; None in others."""


class SingleGroup(Group):
    """A single process with the whole model: nothing to exchange."""

    def __init__(self) -> None:
        super().__init__(0, 1)

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    def broadcast(self, tensor: torch.Tensor) -> None:
        pass

    def gather(self, tensor: torch.Tensor) -> Optional[torch.Tensor]:
        return tensor
