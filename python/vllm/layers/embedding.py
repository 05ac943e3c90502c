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
        divided = group.size > 1
        # With several ranks a row of zeros follows, for tokens whose rows are in another rank.
        self._table = torch.empty(vocabulary.size + divided, hidden_size)
        self.weight = nn.Parameter(self._table[: vocabulary.size], requires_grad=False)
        if divided:
            self._table[vocabulary.size :].zero_()
            rows = torch.full((vocabulary.whole,), vocabulary.size, dtype=torch.int64)
            rows[vocabulary.index] = torch.arange(vocabulary.size)
            self._rows = rows  # of each token id, in the table

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        """int64 [tokens] -> [tokens, hidden_size], the same on all ranks."""
        out = self._table.new_empty(len(token_ids), self._table.shape[1])
        if self.group.size == 1:
            ops.embedding(out, token_ids, self._table)
            return out
        ops.embedding(out, self._rows.index_select(0, token_ids), self._table)
        return self.group.all_reduce(out)

    def targets(self) -> Iterator[Tuple[str, str, Target]]:
        """The tensors to load; see `Linear.targets`."""
        width = Shard.all(self.weight.shape[1])
        yield "", "weight", Target(self.weight, (self.vocabulary, width))
