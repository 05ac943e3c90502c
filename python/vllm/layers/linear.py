"""Linear layers: single or merged, whole or divided among ranks."""

from __future__ import annotations

from typing import Iterator, Mapping, Optional, Tuple, Union

import torch
from torch import nn

from vllm.layers.activation import silu_and_mul
from vllm.layers.norm import Normed
from vllm.layers.weights import Dense, Target, WeightedLayer, WeightFormat
from vllm.parallel.group import Group
from vllm.parallel.shard import Shard


class Linear(WeightedLayer):
    """``x @ weight.T + bias``, uninitialised.

    inputs: this rank's part of the input.
    outputs: this rank's part of the output. A mapping merges several linear layers of the same
        input, by their names in checkpoints: one product gives their outputs concatenated.
    weights: the format in which the weight is stored.
    """

    def __init__(
        self,
        inputs: Shard,
        outputs: Union[Shard, Mapping[str, Shard]],
        *,
        bias: bool = False,
        weights: Optional[WeightFormat] = None,
    ) -> None:
        super().__init__(inputs, outputs)
        self.weights = weights or Dense()
        self.weights.create(self)
        self.bias = (
            nn.Parameter(torch.empty(self.num_outputs), requires_grad=False) if bias else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[tokens, inputs] -> [tokens, outputs]."""
        return self.weights.apply(self, x, self.bias)

    def into(self, x: torch.Tensor, out: torch.Tensor) -> None:
        """`forward`, written to out: [tokens, outputs]."""
        self.weights.apply_into(self, x, self.bias, out)

    def of(self, x: Normed) -> torch.Tensor:
        """Normalises x, then multiplies: [tokens, inputs] -> [tokens, outputs]."""
        if x.delta is None:
            out = self.weights.apply_fused(self, x.residual, self.bias, norm=x.norm)
            if out is not None:
                return out
        return self.forward(x.tensor())

    def gated_of(self, x: Normed) -> torch.Tensor:
        """`of`, then `silu_and_mul`; the layer merges the gate and up projections."""
        if x.delta is None:
            out = self.weights.apply_fused(self, x.residual, self.bias, norm=x.norm, gated=True)
            if out is not None:
                return out
        normed = x.tensor()
        out = self.weights.apply_fused(self, normed, self.bias, gated=True)
        return silu_and_mul(self.forward(normed)) if out is None else out

    def targets(self) -> Iterator[Tuple[str, str, Target]]:
        """The tensors to load: (output, "" if there is only one; tensor name; target)."""
        yield from self.weights.targets(self)
        if self.bias is not None:
            for part, rows in self.split(self.bias):
                yield part, "bias", Target(rows, (self.parts[part],))

    def finish(self) -> None:
        """Call it once after loading, before the first product."""
        self.weights.finish(self)


class RowParallelLinear(Linear):
    """A linear layer whose input is divided among ranks: each computes an addend of the output.

    It follows a layer whose output is divided, so that the two together need one all-reduce, which
    `RMSNorm.add` does.
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
        """[tokens, the rank's inputs] -> [tokens, outputs], to be summed over the ranks."""
        bias = self.bias if self.group.rank == 0 else None  # only once in the sum
        return self.weights.apply(self, x, bias)

    def add_to(self, residual: torch.Tensor, x: torch.Tensor) -> Optional[torch.Tensor]:
        """Adds the product to residual, in place, and returns None; or returns the rank's addend,
        which the caller must add."""
        if self.group.size == 1:
            added = self.weights.apply_fused(self, x, self.bias, residual=residual)
            if added is not None:
                return None
        return self.forward(x)
