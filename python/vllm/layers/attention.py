"""Attention over the paged KV cache, with the position embedding before it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Iterable, Mapping, Optional, Tuple

import torch

from vllm import ops
from vllm.layers.norm import RMSNorm
from vllm.layers.rotary import RotaryEmbedding

# The keys and the values of one layer, each [blocks, block_size, kv_heads, head_size].
KVCache = Tuple[torch.Tensor, torch.Tensor]


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
        self._few_items = ops.few_prefill_items(num_kv_heads, head_size, index)
        self.block_size = block_size
        self.shares = (
            block_size > 0
            and dtype.itemsize == 2
            and ops.attention_shares(head_size, block_size, index)
        )
        self._clusters = [0]  # by the number of sequences that decode; 0 beyond
        while block_size > 0 and dtype.itemsize == 2:
            numbers = (len(self._clusters), num_heads, num_kv_heads, head_size, blocks, index)
            cluster = ops.attention_cluster(*numbers)
            if not cluster:
                break
            self._clusters.append(cluster)
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
        most_sequences: int = 0,
    ) -> Mapping[int, ops.AttentionPlan]:
        """The plan of each window. `items` are on the CPU, as all arguments are; copy them, the
        lengths and the block tables to the GPU before the step, because the plans have
        `AttentionPlan.metadata_ready` set.

        context_lens, query_starts: int32 [sequences] and [sequences + 1]; see `AttentionMetadata`.
        memory: int32 of `items_shape`, for the items; allocated if None.
        block_tables: int32 [sequences, blocks], to find shared KV blocks; None finds none.
        most_sequences: of the steps that a CUDA graph serves, if one runs this step.
        """
        if memory is None:
            shape = self.items_shape(int(query_starts[-1]), len(context_lens))
            memory = torch.empty(shape, dtype=torch.int32, device="cpu")
        cluster = self._cluster(context_lens, query_starts, block_tables, most_sequences)
        if not self.shares:
            block_tables = None
        plans = {}
        for window, items in zip(self.windows, memory):
            decode_blocks, prefill_first, prefill_tiles, used, planned = ops.plan_attention(
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
                cluster,
                self._few_items,
            )
            plans[window] = ops.AttentionPlan(
                items[:used],
                self._arrivals,
                self._partials,
                decode_blocks,
                prefill_first,
                prefill_tiles,
                metadata_ready=True,
                cluster=planned,
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

        plans: of a step; those of other steps have prefill items where these have, and as few, if
            these have few; see `few_prefill_items`.
        items: int32 of `items_shape`, on the GPU, where all these steps have theirs.
        prompt_tokens, sequences: the most of any step; 0 tokens if all sequences decode, and only
            shared keys make prefill items.
        """
        tiles = self.blocks
        if prompt_tokens:
            tiles = self._sizes(prompt_tokens, sequences).prefill_tiles
        few = self.few_prefill_items(plans)
        return {
            window: plan._replace(
                items=each,
                decode_blocks=self.blocks // max(plan.cluster, 1),
                prefill_first=self.blocks if plan.prefill_tiles else len(each),
                prefill_tiles=(few or tiles) if plan.prefill_tiles else 0,
            )
            for (window, plan), each in zip(plans.items(), items)
        }

    def few_prefill_items(self, plans: Mapping[int, ops.AttentionPlan]) -> int:
        """The number of prefill items in the grids of a CUDA graph for steps with few of them, if
        this is one; else 0. Graphs of the two kinds of steps differ."""
        most = max(plan.prefill_tiles for plan in plans.values())
        return self._few_items if 0 < most <= self._few_items else 0

    def _cluster(
        self,
        context_lens: torch.Tensor,
        query_starts: torch.Tensor,
        block_tables: Optional[torch.Tensor],
        most_sequences: int,
    ) -> int:
        """`AttentionPlan.cluster` of a step."""
        sequences = max(len(context_lens), most_sequences)
        if sequences >= len(self._clusters) or not self._clusters[sequences]:
            return 0
        if block_tables is None or not ops.keys_are_ready(
            context_lens, query_starts, block_tables, self.block_size
        ):
            return 0
        return self._clusters[sequences]


class Attention:
    """Causal attention of one layer, for any number of query heads per key and value head.

    sliding_window: a token attends to itself and the window - 1 tokens before it; 0 is no limit.
    rotary: the position embedding of query and key.
    norms: of each head of query and key, before the rotation.
    """

    def __init__(
        self,
        num_heads: int,
        num_kv_heads: int,
        head_size: int,
        rotary: RotaryEmbedding,
        norms: Optional[Tuple[RMSNorm, RMSNorm]] = None,
        sliding_window: int = 0,
    ) -> None:
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_size = head_size
        self.rotary = rotary
        self.norms = norms
        self.sliding_window = sliding_window
        self.scale = head_size**-0.5

    def __call__(
        self,
        positions: torch.Tensor,
        heads: torch.Tensor,
        cache: KVCache,
        metadata: AttentionMetadata,
    ) -> torch.Tensor:
        """Stores the keys and values of new tokens in the cache; attention of each query to its
        sequence.

        positions: int64 [tokens]; on a GPU, copied there before the step, as the metadata is.
        heads: [tokens, heads, head_size], those of query, key and value as the projections give
            them, one after another; overwritten.

        Returns [tokens, heads * head_size].
        """
        query, key, value = self._split(heads)
        query_norm, key_norm = self.norms or (None, None)
        out = query.new_empty(query.shape)
        ops.rotary_and_attention(
            out,
            positions,
            query,
            key,
            value,
            self.rotary.cos_sin_cache,
            *cache,
            metadata.slot_mapping,
            metadata.block_tables,
            metadata.context_lens,
            metadata.query_starts,
            self.scale,
            sliding_window=self.sliding_window,
            query_weight=query_norm.weight if query_norm else None,
            key_weight=key_norm.weight if key_norm else None,
            epsilon=query_norm.epsilon if query_norm else 0.0,
            plan=metadata.plans.get(self.sliding_window),
        )
        return out.view(-1, self.num_heads * self.head_size)

    def store(
        self,
        positions: torch.Tensor,
        heads: torch.Tensor,
        cache: KVCache,
        metadata: AttentionMetadata,
    ) -> None:
        """Only stores the keys and values; see `__call__`."""
        query_norm, key_norm = self.norms or (None, None)
        ops.rotary_and_cache(
            positions,
            *self._split(heads),
            self.rotary.cos_sin_cache,
            *cache,
            metadata.slot_mapping,
            query_norm.weight if query_norm else None,
            key_norm.weight if key_norm else None,
            query_norm.epsilon if query_norm else 0.0,
            metadata_ready=True,
        )

    def _split(self, heads: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The heads of query, of key and of value."""
        numbers = [self.num_heads, self.num_kv_heads, self.num_kv_heads]
        query, key, value = torch.split(heads, numbers, dim=1)
        return query, key, value
