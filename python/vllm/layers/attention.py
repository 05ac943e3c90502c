"""Attention over the paged KV cache."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Iterable, Mapping, Optional, Tuple

import torch

from vllm import ops

# The keys and the values of one layer, each [blocks, block_size, kv_heads, head_size].
KVCache = Tuple[torch.Tensor, torch.Tensor]

_TILE_ROWS = 128  # query rows of a prefill item of a plan (csrc/params/attention.h)


@dataclass(frozen=True)
class AttentionMetadata:
    """The positions of a step's tokens in their sequences and in the KV cache.

    The tokens of all sequences are concatenated. Those of sequence i are rows
    [query_starts[i], query_starts[i + 1]) and are the last of its context_lens[i] tokens.

    slot_mapping: int64 [tokens], block * block_size + offset where a key and value are stored.
    block_tables: int32 [sequences, blocks], padded with the index of any valid KV block.
    context_lens: int32 [sequences].
    query_starts: int32 [sequences + 1].
    plans: on CUDA, by sliding window; see `AttentionPlanner`.
    """

    slot_mapping: torch.Tensor
    block_tables: torch.Tensor
    context_lens: torch.Tensor
    query_starts: torch.Tensor
    plans: Mapping[int, ops.AttentionPlan] = field(default_factory=dict)


class AttentionPlanner:
    """Divides the attention of each step among the thread blocks of a GPU.

    windows: the sliding windows of the model's layers, 0 for none; each gets a separate plan.
    blocks, prefill_blocks: thread blocks for decode and for prefill attention; by default as many
        as the GPU runs at once.
    block_size: tokens of a KV block. If kernels support it with this dtype, keys and values that
        sequences share are read once for all of them; 0 disables that.

    All plans share the memory for partial results, because steps run one after another.
    """

    def __init__(
        self,
        num_heads: int,
        num_kv_heads: int,
        head_size: int,
        device: torch.device,
        windows: Iterable[int] = (0,),
        blocks: int = 0,
        prefill_blocks: int = 0,
        block_size: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_size = head_size
        self.windows = sorted(set(windows))
        index = torch.cuda.current_device() if device.index is None else device.index
        if not blocks:
            blocks = ops.attention_blocks(head_size, index)
            prefill_blocks = ops.prefill_blocks(head_size, index)
        self.blocks = blocks
        self.prefill_blocks = prefill_blocks
        self.block_size = block_size
        self.shares = (
            block_size > 0
            and dtype.itemsize == 2
            and ops.attention_shares(head_size, block_size, index)
        )
        sizes = self._sizes(0, 0)
        self._arrivals = torch.zeros(sizes.arrivals, dtype=torch.int32, device=device)
        self._partials = torch.empty(sizes.partials, dtype=torch.float32, device=device)

    def _sizes(self, tokens: int, sequences: int) -> ops.AttentionPlanSizes:
        return ops.attention_plan_sizes(
            tokens, sequences, self.num_heads, self.num_kv_heads, self.head_size, self.blocks
        )

    def items_shape(self, tokens: int, sequences: int) -> Tuple[int, int, int]:
        """[windows, items, int32s of an item]: the space for the plans of any step with at most
        this many tokens and sequences."""
        sizes = self._sizes(tokens, sequences)
        return len(self.windows), sizes.items, sizes.item_ints

    def plan(
        self,
        context_lens: torch.Tensor,
        query_starts: torch.Tensor,
        memory: Optional[torch.Tensor] = None,
        block_tables: Optional[torch.Tensor] = None,
    ) -> Mapping[int, ops.AttentionPlan]:
        """The plan of each window. `items` are on the CPU, as all arguments are; copy them, the
        lengths and the block tables to the GPU before the step, because the plans have
        `AttentionPlan.metadata_ready` set.

        context_lens, query_starts: int32 [sequences] and [sequences + 1]; see `AttentionMetadata`.
        memory: int32 of `items_shape`, for the items; allocated if None.
        block_tables: int32 [sequences, blocks], to find shared KV blocks; None finds none.
        """
        if memory is None:
            shape = self.items_shape(int(query_starts[-1]), len(context_lens))
            memory = torch.empty(shape, dtype=torch.int32)
        if not self.shares:
            block_tables = None
        plans = {}
        for window, items in zip(self.windows, memory):
            decode_blocks, prefill_first, prefill_tiles, used = ops.plan_attention(
                items,
                context_lens,
                query_starts,
                self.num_heads,
                self.num_kv_heads,
                window,
                self.blocks,
                self.prefill_blocks,
                block_tables,
                self.block_size,
            )
            plans[window] = ops.AttentionPlan(
                items[:used],
                self._arrivals,
                self._partials,
                decode_blocks,
                prefill_first,
                prefill_tiles,
                metadata_ready=True,
            )
        return plans

    def largest(
        self,
        plans: Mapping[int, ops.AttentionPlan],
        items: torch.Tensor,
        prompt_tokens: int,
        sequences: int,
    ) -> Mapping[int, ops.AttentionPlan]:
        """Plans with the grids of the largest step, for a CUDA graph that serves other steps.

        plans: of a step; those of other steps have prefill items where these have.
        items: int32 of `items_shape`, on the GPU, where all these steps have theirs.
        prompt_tokens, sequences: the most of any step; 0 tokens if all sequences decode, and only
            shared keys make prefill items.
        """
        # Full tiles, a last one for each sequence, and pieces of tiles and of shared keys.
        tiles = self.blocks
        if prompt_tokens:
            full = prompt_tokens * (self.num_heads // self.num_kv_heads) // _TILE_ROWS
            tiles = full + sequences + 2 * self.blocks
        return {
            window: plan._replace(
                items=each,
                decode_blocks=self.blocks,
                prefill_first=self.blocks if plan.prefill_tiles else len(each),
                prefill_tiles=tiles if plan.prefill_tiles else 0,
            )
            for (window, plan), each in zip(plans.items(), items)
        }


class Attention:
    """Causal attention of one layer, for any number of query heads per key and value head.

    sliding_window: a token attends to itself and the window - 1 tokens before it; 0 is no limit.
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
        """Attention of each query to its sequence, whose keys and values are already in the cache.

        query: [tokens, heads, head_size]. Returns [tokens, heads * head_size].
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
            plan=metadata.plans.get(self.sliding_window),
        )
        return out.view(-1, self.num_heads * self.head_size)
