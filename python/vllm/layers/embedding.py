"""Token embeddings."""

from __future__ import annotations

from typing import Iterator, Tuple

import torch
from torch import nn

from vllm import ops
from vllm.layers.weights import Target
from vllm.parallel.group import Group
from vllm.parallel.shard import Shard


class Embedding(nn.Module):
    """A table of weights, [vocabulary, hidden_size], with a row for each token id.

    vocabulary: the token ids whose rows this rank holds.
    """

    def __init__(self, vocabulary: Shard, hidden_size: int, group: Group) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.group = group
        weight = torch.empty(vocabulary.size, hidden_size)
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        """int64 [tokens] -> [tokens, hidden_size], the same on all ranks."""
        weight = self.weight
        out = weight.new_empty(len(token_ids), weight.shape[1])
        if self.group.size == 1:
            ops.embedding(out, token_ids, weight)
            return out
        rows = token_ids - self.vocabulary.start
        elsewhere = (rows < 0) | (rows >= self.vocabulary.size)
        ops.embedding(out, rows.masked_fill(elsewhere, 0), weight)
        return self.group.all_reduce(out.masked_fill_(elsewhere[:, None], 0))

    def targets(self) -> Iterator[Tuple[str, str, Target]]:
        """The tensors to load; see `Linear.targets`."""
        width = Shard.all(self.weight.shape[1])
        yield "", "weight", Target(self.weight, (self.vocabulary, width))
