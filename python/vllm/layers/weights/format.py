"""The interface of weight formats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Iterator, Optional, Tuple

import torch

from vllm.layers.norm import RMSNorm
from vllm.layers.weights.layer import WeightedLayer
from vllm.parallel.shard import Shard


@dataclass(frozen=True)
class Target:
    """Where to load a tensor of a checkpoint: this rank's part of it goes to `tensor`.

    shards: this rank's part of each dimension of the checkpoint's tensor.
    """

    tensor: torch.Tensor
    shards: Tuple[Shard, ...]

    @classmethod
    def whole(cls, tensor: torch.Tensor) -> Target:
        """The target of a tensor that every rank holds completely."""
        return cls(tensor, tuple(Shard.all(size) for size in tensor.shape))

    @property
    def shape(self) -> Tuple[int, ...]:
        """The shape of the whole tensor in the checkpoint."""
        return tuple(shard.whole for shard in self.shards)

    @property
    def index(self) -> Tuple[slice, ...]:
        return tuple(shard.index for shard in self.shards)


class WeightFormat(ABC):
    """How a linear layer's weight is stored, in checkpoints and in memory, and used.

    A format has no state: it stores everything in attributes of the layer. The layer's `inputs` and
    `parts` are this rank's part of the weight. The layer stores its bias itself.
    """

    @abstractmethod
    def create(self, layer: WeightedLayer) -> None:
        """Adds the layer's parameters, uninitialised."""

    @abstractmethod
    def targets(self, layer: WeightedLayer) -> Iterator[Tuple[str, str, Target]]:
        """The tensors to load: (part of the layer, the tensor's name in it, target)."""

    @abstractmethod
    def finish(self, layer: WeightedLayer) -> None:
        """Converts the loaded tensors to what `apply` reads; called once, after loading."""

    @abstractmethod
    def apply(
        self, layer: WeightedLayer, x: torch.Tensor, bias: Optional[torch.Tensor] = None
    ) -> torch.Tensor:
        """``x @ weight.T + bias``, [rows, inputs] -> [rows, outputs]."""

    def apply_into(
        self, layer: WeightedLayer, x: torch.Tensor, bias: Optional[torch.Tensor], out: torch.Tensor
    ) -> None:
        """Writes ``x @ weight.T + bias``, [rows, inputs], to out, [rows, outputs]."""
        out.copy_(self.apply(layer, x, bias))

    def apply_fused(
        self,
        layer: WeightedLayer,
        x: torch.Tensor,
        bias: Optional[torch.Tensor] = None,
        *,
        norm: Optional[RMSNorm] = None,
        gated: bool = False,
        residual: Optional[torch.Tensor] = None,
    ) -> Optional[torch.Tensor]:
        """`apply` fused with the operations around it: the norm of x before it; `silu_and_mul`
        after it; the addition to residual, in place.

        None, with nothing done, if the format has no fused kernel for these rows.
        """
        return None
