"""What a format of weights does for the layers that multiply by them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Iterator, Optional, Tuple

import torch

from vllm.parallel.shard import Shard

if TYPE_CHECKING:
    from vllm.layers.linear import Linear
    from vllm.layers.norm import RMSNorm


@dataclass(frozen=True)
class Target:
    """Where a tensor of a checkpoint goes: the part of it that `shards` say, to `tensor`.

    shards: one for each dimension of the checkpoint's tensor.
    """

    tensor: torch.Tensor
    shards: Tuple[Shard, ...]

    @classmethod
    def whole(cls, tensor: torch.Tensor) -> Target:
        """Of a tensor that every rank holds all of."""
        return cls(tensor, tuple(Shard.all(size) for size in tensor.shape))

    @property
    def shape(self) -> Tuple[int, ...]:
        """Of the whole tensor, as the checkpoint has it."""
        return tuple(shard.whole for shard in self.shards)

    @property
    def index(self) -> Tuple[slice, ...]:
        return tuple(shard.index for shard in self.shards)


class WeightFormat(ABC):
    """How a layer's weight is stored, in checkpoints and in memory, and multiplied by.

    A format keeps no state: what it makes becomes attributes of the layer. The layer says which
    part of the weight this rank holds, by its `inputs` and `parts`; its bias is its own business.
    """

    @abstractmethod
    def create(self, layer: Linear) -> None:
        """Gives the layer its parameters, uninitialised."""

    @abstractmethod
    def targets(self, layer: Linear) -> Iterator[Tuple[str, str, Target]]:
        """What is loaded: a part of the layer, the tensor's name within it, and where it goes."""

    @abstractmethod
    def finish(self, layer: Linear) -> None:
        """Turns what was loaded into what `apply` reads; called once, after loading."""

    @abstractmethod
    def apply(
        self, layer: Linear, x: torch.Tensor, bias: Optional[torch.Tensor] = None
    ) -> torch.Tensor:
        """``x @ weight.T + bias``, [rows, inputs] -> [rows, outputs]."""

    def apply_fused(
        self,
        layer: Linear,
        x: torch.Tensor,
        bias: Optional[torch.Tensor] = None,
        *,
        norm: Optional[RMSNorm] = None,
        gated: bool = False,
        residual: Optional[torch.Tensor] = None,
    ) -> Optional[torch.Tensor]:
        """What `apply` makes, together with what stands around it: of the norm of x; with the gated
        activation of the result (`silu_and_mul`); added to residual, in place.

        None, with nothing done, where the format has no such product for these rows."""
        return None
