"""Attention over a paged cache, and the plan that divides it among the blocks of a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Optional, Tuple

from vllm.ops import tracing
from vllm.ops.native import _C

if TYPE_CHECKING:
    from vllm.ops.native import Tensor


_NO_PLAN = (None, None, None, 0, 0, 0, False)


class AttentionPlan(NamedTuple):
    """How CUDA divides the attention of one step; see `plan_attention`.

    items: int32 [items, item_ints], what `plan_attention` wrote, on the device.
    arrivals: int32 [arrivals], zeros before the first use. Every use leaves zeros: steps and layers
        share it, but for those that run at the same time.
    partials: float32 [partials] or more, of any values; shared likewise.
    decode_blocks, prefill_first, prefill_tiles: what `plan_attention` returned. In a CUDA graph
        that is to serve other steps, all of `blocks`, and as many tiles as a step may have, or 0
        where none prefills.
    settled: whether `items` and the block tables are there before the kernel that was launched
        last begins: by a copy, or by a kernel before that one. Then they are read, and the first
        keys and values asked for, while it still runs. What that kernel itself writes into the
        cache or the query is waited for in any case.
    """

    items: Tensor
    arrivals: Tensor
    partials: Tensor
    decode_blocks: int
    prefill_first: int
    prefill_tiles: int
    settled: bool = False


class AttentionPlanSizes(NamedTuple):
    """The shapes of an `AttentionPlan`: items [items, item_ints], arrivals [arrivals], partials
    [partials]. The first is enough for any step of so many tokens and sequences."""

    items: int
    item_ints: int
    arrivals: int
    partials: int


def attention_plan_sizes(
    tokens: int, sequences: int, heads: int, kv_heads: int, head_size: int, blocks: int
) -> AttentionPlanSizes:
    """What the plan of a step takes that has at most so many query tokens and sequences. Arrivals
    and partials depend on head_size and blocks only."""
    sizes = _C.attention_plan_sizes(tokens, sequences, heads, kv_heads, head_size, blocks)
    return AttentionPlanSizes(*sizes)


def attention_blocks(head_size: int, device: int) -> int:
    """The blocks that CUDA device `device` runs at once in attention with heads of that size: two
    on a multiprocessor whose shared memory has room for them, else one. RuntimeError where there is
    no such device, or no code for it."""
    return int(_C.attention_blocks(head_size, device))


def prefill_blocks(head_size: int, device: int) -> int:
    """The blocks of prefill attention that CUDA device `device` runs at once with heads of that
    size, of float16 or bfloat16: one on a multiprocessor that has wgmma (9.0a), else two.
    RuntimeError as for `attention_blocks`."""
    return int(_C.prefill_blocks(head_size, device))


def attention_shares(head_size: int, block_size: int, device: int) -> bool:
    """Whether CUDA device `device` can read keys once that several decoding sequences share: those
    of float16 and bfloat16 heads of that size, in blocks of so many tokens. See
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
) -> Tuple[int, int, int, int]:
    """Divides the attention of a step among the blocks of a GPU: once for all layers that have
    these heads and this window. Everything is on the CPU, and no GPU is asked.

    Keys and values that decoding tokens read are cut into `blocks` pieces of about equal length
    (Flash-Decoding, Dao et al. 2023, with the cuts of stream-K, arXiv:2301.03598), those of a
    sequence's KV heads alike; prefills are cut into tiles of rows, and these over keys as well
    where there are too few for the blocks.

    items: int32 [items, item_ints], written; `attention_plan_sizes` says how many are enough.
        ValueError says how many are, where it is too small.
    context_lens, query_starts: int32, as `paged_attention` takes them.
    blocks: as many as run on the GPU at once; see `attention_blocks`.
    prefill_blocks: the same for prefills, see `prefill_blocks`; `blocks` where it is more, or 0.
    block_tables, block_size: int32 [sequences, blocks], as `paged_attention` takes them, if keys
        that neighbours share are to be read once (Juravsky et al. 2024, arXiv:2402.05099): only
        where `attention_shares` says that the kernels can, and for 16-bit types. Where sequences
        with one query token each begin with the same blocks, and enough of them, their rows make
        tiles against these keys, which count as prefill items.

    Returns the number of lists of decode items, of which list i begins at item i; where the prefill
    items begin, behind their number, which is item `blocks`; that number; and how many items there
    are in all.
    """
    decode_blocks, prefill_first, prefill_tiles, used = _C.plan_attention(
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
    )
    return decode_blocks, prefill_first, prefill_tiles, used


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
    """Causal attention of new tokens over a paged cache (Kwon et al. 2023, arXiv:2309.06180).

    The query tokens of a sequence are the last of those that its cache holds: one for decoding,
    all of them for a prefill, something between for a chunk or behind a shared prefix. A token
    sees itself and what is before it.

    On CUDA, float16 and bfloat16 use tensor cores where head_size is 64, 80, 96, 128 or 256, in
    prefills 192 too, blocks are of a multiple of 16 tokens, every head of the cache, in prefills of
    `query` and `out` too, begins at a multiple of 16 bytes, and the GPU has them (compute
    capability 7.5 for float16, 8.0 for bfloat16); all else is slower. The weights are rounded to
    the dtype before they multiply values. Prefills with a positive scale run at Hopper's full speed
    (9.0, from CUDA 12 on) where blocks are of 2 ** n tokens.

    out: [tokens, heads, head_size], written; may be `query` itself.
    query: [tokens, heads, head_size], any strides but the last; head_size is a multiple of 8, up
        to 256. heads is a multiple of kv_heads: query head h reads KV head h // (heads / kv_heads).
    key_cache, value_cache: [blocks, block_size, kv_heads, head_size], any strides but the last.
    block_tables: int32 [sequences, max_blocks], the blocks of each sequence in order. Entries that
        no query sees, before a sliding window or past the last token, are not read.
    context_lens: int32 [sequences], the tokens of each sequence, its query tokens included.
    query_starts: int32 [sequences + 1], rising from 0 to tokens: sequence i has the query tokens
        from query_starts[i] up to query_starts[i + 1].
    scale: multiplies query · key, commonly head_size ** -0.5.
    sliding_window: a token sees the last `sliding_window` tokens, itself included; 0 for all.
    soft_cap: where positive, a score s becomes soft_cap * tanh(s / soft_cap), as in Gemma 2.
    plan: of these lengths, heads and window; CUDA needs it, the CPU ignores it.
    sinks, key_scale, value_scale: for a score of each head that no key has, as in gpt-oss, and for
        caches in FP8. No kernel does either yet, nor keys and values of different sizes:
        ValueError.

    Raises IndexError for a block that the cache does not have and ValueError for lengths that do
    not fit together, before anything is written. On CUDA neither is looked at, since that would
    wait for the GPU, and an infinity or NaN among the values of a token may reach tokens of the
    same step before it.
    """
    items, arrivals, partials, *counts = plan if plan is not None else _NO_PLAN
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
        items,
        arrivals,
        partials,
        *counts,
    )
    if tracing.is_tracing():
        tracing.call("paged_attention", *args)
    else:
        _C.paged_attention(*args)
