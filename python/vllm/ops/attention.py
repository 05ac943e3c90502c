"""Attention over a paged KV cache, and the plan that divides it among a GPU's thread blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Optional, Tuple

from vllm.ops import tracing
from vllm.ops.native import _C

if TYPE_CHECKING:
    from vllm.ops.native import Tensor


_NO_PLAN = (None, None, None, 0, 0, 0, False, 0)


class AttentionPlan(NamedTuple):
    """How CUDA divides the attention of one step; see `plan_attention`.

    items: int32 [items, item_ints], what `plan_attention` wrote, on the device.
    arrivals: int32 [arrivals], counters, zero before the first use. Every use resets them to zero,
        so steps and layers can share them unless they run at the same time.
    partials: float32 [partials] or more, scratch memory; shared likewise.
    decode_blocks, prefill_first, prefill_tiles: what `plan_attention` returned. For a CUDA graph
        that will serve other steps: all of `blocks`, and the most tiles that a step may have, or 0
        if no step prefills. At most `few_prefill_items` tiles have a kernel of their own.
    metadata_ready: whether `items` and the block tables are complete before the previously launched
        kernel begins, because a copy or an earlier kernel wrote them. Then attention reads them and
        prefetches its first keys and values while that kernel still runs (programmatic dependent
        launch, PDL). `paged_attention` always waits for that kernel before it reads the query and
        the KV cache.
    cluster: 0, or what was passed to `plan_attention`. If not 0, `rotary_and_attention` may do
        everything in one kernel, which reads keys and values of older tokens before the previously
        launched kernel is done: they must be ready as the items are, see `keys_are_ready`.
    """

    items: Tensor
    arrivals: Tensor
    partials: Tensor
    decode_blocks: int
    prefill_first: int
    prefill_tiles: int
    metadata_ready: bool = False
    cluster: int = 0


class AttentionPlanSizes(NamedTuple):
    """The shapes of an `AttentionPlan`: items [items, item_ints], arrivals [arrivals], partials
    [partials]. `items` is enough for any step with at most this many tokens and sequences, and of
    them at most `prefill_tiles` are prefill items."""

    items: int
    item_ints: int
    arrivals: int
    partials: int
    prefill_tiles: int


def attention_plan_sizes(
    tokens: int, sequences: int, heads: int, kv_heads: int, head_size: int, blocks: int
) -> AttentionPlanSizes:
    """The sizes of the plan of a step with at most this many query tokens and sequences. arrivals
    and partials depend only on head_size and blocks."""
    sizes = _C.attention_plan_sizes(tokens, sequences, heads, kv_heads, head_size, blocks)
    return AttentionPlanSizes(*sizes)


def attention_blocks(head_size: int, device: int) -> int:
    """The thread blocks of decode attention that CUDA device `device` runs at once with heads of
    this size: two on each multiprocessor if they fit in its shared memory, else one. RuntimeError
    if there is no such device, or no code for it."""
    return int(_C.attention_blocks(head_size, device))


def prefill_blocks(head_size: int, device: int) -> int:
    """The thread blocks of prefill attention that CUDA device `device` runs at once with float16 or
    bfloat16 heads of this size: one on each multiprocessor with wgmma (9.0a), else two, or one if
    its shared memory has no room for two. RuntimeError as for `attention_blocks`."""
    return int(_C.prefill_blocks(head_size, device))


def few_prefill_items(kv_heads: int, head_size: int, device: int) -> int:
    """The most prefill items of a step (see `plan_attention`) that CUDA device `device` runs by a
    separate kernel for few items, with float16 or bfloat16 and without a soft cap: its thread
    blocks merge the results of an item that is cut along the keys faster. 0 without that kernel."""
    return int(_C.few_prefill_items(kv_heads, head_size, device))


def attention_cluster(
    sequences: int, heads: int, kv_heads: int, head_size: int, blocks: int, device: int
) -> int:
    """The `cluster` to plan with for steps in which so many sequences decode one token each, on
    CUDA device `device` with float16 or bfloat16; 0 if `rotary_and_attention` has no kernel for
    that, or two kernels are faster. `blocks`: see `attention_blocks`."""
    return int(_C.attention_cluster(sequences, heads, kv_heads, head_size, blocks, device))


def keys_are_ready(
    context_lens: Tensor, query_starts: Tensor, block_tables: Tensor, block_size: int
) -> bool:
    """Whether all keys and values that a step reads are in the cache before the step, but for the
    newest of each sequence: no sequence has more than one query token, and none has a KV block in
    its table that another one fills in this step. Sequences share only full blocks, and have them
    at the same place in their tables. All tensors are on the CPU, int32; see `paged_attention`."""
    return bool(_C.keys_are_ready(context_lens, query_starts, block_tables, block_size))


def attention_shares(head_size: int, block_size: int, device: int) -> bool:
    """Whether CUDA device `device` can read keys that several decoding sequences share only once:
    for float16 and bfloat16 heads of this size, in KV blocks of `block_size` tokens. See
    `plan_attention`."""
    return bool(_C.attention_shares(head_size, block_size, device))


def plan_attention(
    items: Tensor,
    context_lens: Tensor,
    query_starts: Tensor,
    heads: int,
    kv_heads: int,
    sliding_window: int,
    blocks: int,
    prefill_blocks: int = 0,
    block_tables: Optional[Tensor] = None,
    block_size: int = 0,
    cluster: int = 0,
    few_items: int = 0,
) -> Tuple[int, int, int, int, int]:
    """Divides the attention of a step among the thread blocks of a GPU, once for all layers with
    these heads and this window. All tensors are on the CPU, and the GPU is not used.

    The keys and values of decoding tokens are cut into `blocks` pieces of about equal length
    (Flash-Decoding, Dao et al. 2023, with the cuts of stream-K, arXiv:2301.03598), in the same
    places for all KV heads of a sequence. Prefills are cut into tiles of rows; if there are fewer
    tiles than thread blocks, they are also cut along the keys.

    items: int32 [items, item_ints], written; see `attention_plan_sizes`. If it is too small, the
        ValueError names the needed size.
    context_lens, query_starts: int32, as for `paged_attention`.
    blocks: the thread blocks that the GPU runs at once; see `attention_blocks`.
    prefill_blocks: the same for prefills, see `prefill_blocks`; 0, or more than `blocks`, means
        `blocks`.
    block_tables, block_size: int32 [sequences, blocks], as for `paged_attention`, to read keys that
        consecutive sequences share only once (Juravsky et al. 2024, arXiv:2402.05099). Pass them
        only for 16-bit dtypes, and if `attention_shares` is true. If sequences with one query token
        each begin with the same KV blocks, and enough of them, their rows form tiles over these
        keys, which are planned as prefill items.

    few_items: what `few_prefill_items` returns, 0 without that kernel. With it, prefill tiles are
        cut into shorter pieces.

    Returns (1) the number of decode lists, where list i begins at item i; (2) the index of the
    first prefill item, which follows item `blocks`, where their number is stored; (3) the number of
    prefill items; (4) the number of all items; (5) `cluster`, or 0 if there are prefill items.
    """
    counts: Tuple[int, int, int, int, int] = _C.plan_attention(
        items,
        context_lens,
        query_starts,
        heads,
        kv_heads,
        sliding_window,
        blocks,
        prefill_blocks or blocks,
        block_tables,
        block_size,
        cluster,
        few_items,
    )
    return counts


def paged_attention(
    out: Tensor,
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_tables: Tensor,
    context_lens: Tensor,
    query_starts: Tensor,
    scale: float,
    sliding_window: int = 0,
    soft_cap: float = 0.0,
    plan: Optional[AttentionPlan] = None,
    *,
    sinks: Optional[Tensor] = None,
    key_scale: float = 1.0,
    value_scale: float = 1.0,
) -> None:
    """Causal attention of new tokens over a paged KV cache (Kwon et al. 2023, arXiv:2309.06180).

    The query tokens of a sequence are the last of its tokens in the cache: one for decoding, all of
    them for a prefill, some of them for a chunk or after a shared prefix. A token attends to itself
    and to the tokens before it.

    On CUDA, float16 and bfloat16 use tensor cores if all of this holds: head_size is 64, 80, 96,
    128 or 256 (in prefills also 192); KV blocks have a multiple of 16 tokens; every head of the
    cache begins at a multiple of 16 bytes; and the compute capability is at least 8.0, or 7.5 for
    float16 with a head_size of at most 128. In prefills, heads of `query` and `out` must also begin
    at multiples of 16 bytes, key_cache and value_cache must have the same strides, and block_size
    is at most 1024. Otherwise it is slower. Attention weights are rounded to the dtype before they
    are multiplied by values. Prefills with a positive scale run at full speed on Hopper (9.0, from
    CUDA 12 on) if block_size is a power of two.

    out: [tokens, heads, head_size], written; may be `query` itself.
    query: [tokens, heads, head_size], any strides but the last; head_size is a multiple of 8, up
        to 256. heads is a multiple of kv_heads: query head h reads KV head h // (heads / kv_heads).
    key_cache, value_cache: [blocks, block_size, kv_heads, head_size], any strides but the last.
    block_tables: int32 [sequences, max_blocks], the KV blocks of each sequence in order. Entries
        that no query attends to, before a sliding window or past the last token, are not read.
    context_lens: int32 [sequences], the tokens of each sequence, its query tokens included.
    query_starts: int32 [sequences + 1], rising from 0 to tokens: sequence i has the query tokens
        [query_starts[i], query_starts[i + 1]).
    scale: multiplies query · key, commonly head_size ** -0.5.
    sliding_window: a token attends to the last `sliding_window` tokens, itself included; 0 for all.
    soft_cap: if positive, a score s becomes soft_cap * tanh(s / soft_cap), as in Gemma 2.
    plan: the plan for these lengths, heads and window; required on CUDA, ignored on the CPU.
    sinks, key_scale, value_scale: reserved for attention sinks (as in gpt-oss) and FP8 caches. No
        kernel supports them yet, nor keys and values of different sizes: ValueError.

    Raises IndexError for a KV block outside of the cache and ValueError for inconsistent lengths,
    before anything is written. CUDA checks neither, since that would wait for the GPU; and on CUDA
    an infinity or NaN in the values of a token may reach earlier tokens of the same step.
    """
    args = (
        out,
        query,
        key_cache,
        value_cache,
        block_tables,
        context_lens,
        query_starts,
        scale,
        sliding_window,
        soft_cap,
        sinks,
        key_scale,
        value_scale,
        *(plan if plan is not None else _NO_PLAN),
    )
    if tracing.is_tracing():
        tracing.call("paged_attention", *args)
    else:
        _C.paged_attention(*args)


def rotary_and_attention(
    out: Tensor,
    positions: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cos_sin_cache: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    slot_mapping: Tensor,
    block_tables: Tensor,
    context_lens: Tensor,
    query_starts: Tensor,
    scale: float,
    sliding_window: int = 0,
    soft_cap: float = 0.0,
    query_weight: Optional[Tensor] = None,
    key_weight: Optional[Tensor] = None,
    epsilon: float = 0.0,
    plan: Optional[AttentionPlan] = None,
) -> None:
    """`rotary_and_cache`, then `paged_attention`: everything between the projections before and
    after attention. The arguments are theirs; plan.metadata_ready is for both.

    On CUDA it is one kernel if plan.cluster is not 0, no item is a prefill's, `paged_attention`
    would use tensor cores, and this holds: head_size is 64, 128 or 256 and all of a head is
    rotated; every head begins at a multiple of 16 bytes; the compute capability is at least 8.0.
    It requires that positions[i] is context_lens[i] - 1 and that slot_mapping[i] is the slot of
    sequence i's last token by its block table, or -1. The keys and values that it stores are
    bit-equal to those of `rotary_and_cache`.

    query: its contents are undefined afterwards.
    """
    args = (
        out,
        positions,
        query,
        key,
        value,
        cos_sin_cache,
        key_cache,
        value_cache,
        slot_mapping,
        block_tables,
        context_lens,
        query_starts,
        scale,
        sliding_window,
        soft_cap,
        query_weight,
        key_weight,
        epsilon,
        *(plan if plan is not None else _NO_PLAN),
    )
    if tracing.is_tracing():
        tracing.call("rotary_and_attention", *args)
    else:
        _C.rotary_and_attention(*args)
