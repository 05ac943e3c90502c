"""Token ids to vectors, and vectors to logits."""

from __future__ import annotations

from typing import Optional

import torch
from torch import nn
from torch.nn import functional

from vllm import ops
from vllm.layers.packed import PackedWeight


class Embedding(nn.Module):
    """One row of weight, [vocab_size, hidden_size], per token id.

    Where the language-model head is tied to it, `project` is that head.
    """

    def __init__(self, vocab_size: int, hidden_size: int) -> None:
        super().__init__()
        self._packed: Optional[PackedWeight] = None
        self.weight = nn.Parameter(torch.empty(vocab_size, hidden_size), requires_grad=False)

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        """int64 [tokens] -> [tokens, hidden_size]."""
        out = self.weight.new_empty(len(token_ids), self.weight.shape[1])
        ops.embedding(out, token_ids, self.weight)
        return out

    def project(self, hidden: torch.Tensor) -> torch.Tensor:
        """``hidden @ weight.T``, [rows, hidden_size] -> [rows, vocab_size]."""
        if self._packed is not None:
            return self._packed.linear(hidden)
        return functional.linear(hidden, self.weight)

    def pack_for_project(self) -> None:
        """Makes `project` faster where `PackedWeight` can, for a second copy of the weight."""
        if PackedWeight.can_hold(self.weight):
            self._packed = PackedWeight(self.weight)
