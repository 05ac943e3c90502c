"""Attention over the paged cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

import torch

from vllm import ops

# The keys and the values of one layer, each [blocks, block_size, kv_heads, head_size].
KVCache = Tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class AttentionMetadata:
    """Where the tokens of a step lie in their sequences and in the cache.

    The tokens of all sequences are concatenated. Those of sequence i are rows
    [query_starts[i], query_starts[i + 1]) and are the last of its context_lens[i] tokens.

    slot_mapping: int64 [tokens], block * block_size + offset where a key and value are stored.
    block_tables: int32 [sequences, blocks], padded with any valid block.
    context_lens: int32 [sequences].
    query_starts: int32 [sequences + 1].
    """

    slot_mapping: torch.Tensor
    block_tables: torch.Tensor
    context_lens: torch.Tensor
    query_starts: torch.Tensor


class Attention:
    """Causal attention of one layer, for any number of query heads per key and value head.

    sliding_window: a token sees itself and the window - 1 tokens before it; 0 is all of them.
    """

    def __init__(
        self, num_heads: int, num_kv_heads: int, head_size: int, sliding_window: int = 0
    ) -> None:
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_size = head_size
        self.sliding_window = sliding_window
        self.scale = head_size**-0.5

    def __call__(
        self,
        query: torch.Tensor,
        cache: KVCache,
        metadata: AttentionMetadata,
    ) -> torch.Tensor:
        """Lets each query attend to its sequence, whose keys and values are in the cache by now.

        query is [tokens, heads, head_size]; returns [tokens, heads * head_size].
        """
        key_cache, value_cache = cache
        out = query.new_empty(query.shape)
        ops.paged_attention(
            out,
            query,
            key_cache,
            value_cache,
            metadata.block_tables,
            metadata.context_lens,
            metadata.query_starts,
            self.scale,
            sliding_window=self.sliding_window,
        )
        return out.view(-1, self.num_heads * self.head_size)
