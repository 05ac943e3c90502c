"""Matrix products, alone or several in one, whole or divided among ranks."""

from __future__ import annotations

from typing import Dict, Iterator, Mapping, Optional, Tuple, Union

import torch
from torch import nn

from vllm.layers.activation import silu_and_mul
from vllm.layers.norm import Normed
from vllm.layers.weights import Dense, Target, WeightFormat
from vllm.parallel.group import Group
from vllm.parallel.shard import Shard


class Linear(nn.Module):
    """``x @ weight.T + bias``, uninitialised.

    inputs: what this rank has of the input.
    outputs: what it makes of the output. Several, by their names in checkpoints: the products of
        linear layers of one input, made at once and side by side in this order.
    weights: how the weight is stored.
    """

    weight: nn.Parameter  # None where the format has put something else in its place
    packed: Optional[torch.Tensor]  # there with `OneDNN` alone

    def __init__(
        self,
        inputs: Shard,
        outputs: Union[Shard, Mapping[str, Shard]],
        *,
        bias: bool = False,
        weights: Optional[WeightFormat] = None,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.parts: Dict[str, Shard] = (
            {"": outputs} if isinstance(outputs, Shard) else dict(outputs)
        )
        self.num_outputs = sum(part.size for part in self.parts.values())
        self.weights = weights or Dense()
        self.weights.create(self)
        self.bias = (
            nn.Parameter(torch.empty(self.num_outputs), requires_grad=False) if bias else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[tokens, inputs] -> [tokens, outputs]."""
        return self.weights.apply(self, x, self.bias)

    def of(self, x: Normed) -> torch.Tensor:
        """[tokens, inputs], yet to be normalised -> [tokens, outputs]."""
        if x.delta is None:
            out = self.weights.apply_fused(self, x.residual, self.bias, norm=x.norm)
            if out is not None:
                return out
        return self.forward(x.tensor())

    def gated_of(self, x: Normed) -> torch.Tensor:
        """The same for a gate and what it is multiplied by, side by side, after `silu_and_mul`."""
        if x.delta is None:
            out = self.weights.apply_fused(self, x.residual, self.bias, norm=x.norm, gated=True)
            if out is not None:
                return out
        return silu_and_mul(self.forward(x.tensor()))

    def split(self, merged: torch.Tensor) -> Iterator[Tuple[str, torch.Tensor]]:
        """The rows of a tensor that belong to each of the outputs, as views of it."""
        sizes = [part.size for part in self.parts.values()]
        return zip(self.parts, torch.split(merged, sizes))

    def targets(self) -> Iterator[Tuple[str, str, Target]]:
        """What is loaded: which output ("" for the only one), a tensor of it, where it goes."""
        yield from self.weights.targets(self)
        if self.bias is not None:
            for part, rows in self.split(self.bias):
                yield part, "bias", Target(rows, (self.parts[part],))

    def finish(self) -> None:
        """To be called once after loading, before the first product."""
        self.weights.finish(self)


class RowParallelLinear(Linear):
    """A product whose input is divided among ranks: each makes an addend of the output.

    Takes what layers with divided outputs give, so that two products exchange their results once:
    in the addition to the residual that follows (`RMSNorm.add`).
    """

    def __init__(
        self,
        inputs: Shard,
        outputs: Shard,
        group: Group,
        *,
        bias: bool = False,
        weights: Optional[WeightFormat] = None,
    ) -> None:
        super().__init__(inputs, outputs, bias=bias, weights=weights)
        self.group = group

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[tokens, the rank's inputs] -> [tokens, outputs], whose sum over the ranks is meant."""
        bias = self.bias if self.group.rank == 0 else None  # once in the sum
        return self.weights.apply(self, x, bias)

    def add_to(self, residual: torch.Tensor, x: torch.Tensor) -> Optional[torch.Tensor]:
        """Adds the product to residual, in place; or returns the rank's addend, yet to be added."""
        if self.group.size == 1:
            added = self.weights.apply_fused(self, x, self.bias, residual=residual)
            if added is not None:
                return None
        return self.forward(x)
