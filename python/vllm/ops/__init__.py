"""The ops of ``csrc/``, on torch tensors or, on the CPU, NumPy arrays.

They compute in float32, round once to the dtype of their tensors, and write to arguments: nothing
is allocated or returned. dtypes are float32, float16 and bfloat16 (in NumPy, that of ml_dtypes),
one for all floating-point arguments of a call. On CUDA they are launched on torch's current stream
of the tensors' device, and may be captured in a CUDA graph.

The last dimension must be contiguous and of at most 2³¹ - 1 elements; leading dimensions may have
any one stride between rows. What is written to shares no memory with another argument, but where a
docstring allows it. Errors name the op, the argument, what it got and what it takes: ValueError
(shape, stride, device), TypeError (dtype, not a tensor), IndexError, RuntimeError (CUDA), and
NativeCodeError in a build without compiled code. Autograd sees nothing of all this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional, Tuple, Union

from vllm.ops import tracing
from vllm.ops.native import _C

if TYPE_CHECKING:
    import numpy as np
    import torch

    Tensor = Union[torch.Tensor, np.ndarray[Any, Any]]

__all__ = [
    "embedding",
    "fused_add_rms_norm",
    "AttentionPlan",
    "AttentionPlanSizes",
    "attention_blocks",
    "attention_plan_sizes",
    "paged_attention",
    "plan_attention",
    "penalize",
    "reshape_and_cache",
    "rms_norm",
    "rotary_and_cache",
    "rotary_embedding",
    "sample",
    "silu_and_mul",
]


def _look_for_torch() -> bool:
    """Whether Dynamo traces the caller; once torch is imported, torch's own function answers."""
    global _is_tracing
    is_tracing = tracing.find_is_tracing()
    if is_tracing is None:
        return False
    _is_tracing = is_tracing
    return is_tracing()


_is_tracing: Callable[[], bool] = _look_for_torch


def rms_norm(out: Tensor, input: Tensor, weight: Tensor, epsilon: float) -> None:
    """out = input / sqrt(mean(input²) + epsilon) * weight, with the mean of the last dimension.

    out: [..., width], written; may be `input` itself.
    input: [..., width].
    weight: [width].
    """
    if _is_tracing():
        tracing.call("rms_norm", out, input, weight, epsilon)
    else:
        _C.rms_norm(out, input, weight, epsilon)


def fused_add_rms_norm(input: Tensor, residual: Tensor, weight: Tensor, epsilon: float) -> None:
    """residual += input, then input = rms_norm(residual), both in place.

    The sum is rounded to the dtype and stored; the norm is that of the stored value.

    input: [..., width], the addend; overwritten with the norm.
    residual: [..., width], overwritten with the sum.
    weight: [width].
    """
    if _is_tracing():
        tracing.call("fused_add_rms_norm", input, residual, weight, epsilon)
    else:
        _C.fused_add_rms_norm(input, residual, weight, epsilon)


def silu_and_mul(out: Tensor, input: Tensor) -> None:
    """out = silu(x) * y, where input is x and y side by side and silu(x) = x / (1 + exp(-x)).

    out: [..., width], written.
    input: [..., 2 * width].
    """
    if _is_tracing():
        tracing.call("silu_and_mul", out, input)
    else:
        _C.silu_and_mul(out, input)


def embedding(out: Tensor, ids: Tensor, table: Tensor) -> None:
    """out = table[ids], row by row.

    out: [tokens, width], written.
    ids: int64 [tokens], each in [0, rows). Out of range: IndexError on the CPU, before anything is
        written; on CUDA that token's row becomes NaN.
    table: [rows, width].
    """
    if _is_tracing():
        tracing.call("embedding", out, ids, table)
    else:
        _C.embedding(out, ids, table)


def rotary_embedding(
    positions: Tensor,
    query: Tensor,
    key: Optional[Tensor],
    head_size: int,
    cos_sin_cache: Tensor,
    is_neox: bool = True,
) -> None:
    """Rotates pairs of elements of each head of query and key by angles of their position, in place
    (Su et al. 2021, arXiv:2104.09864).

    Only the first rotary_size elements of a head are rotated. NeoX pairs element i with
    i + rotary_size / 2, GPT-J pairs 2 i with 2 i + 1.

    positions: int64 [tokens], each in [0, max_position). Out of range: IndexError on the CPU,
        before anything is written; on CUDA the rotated elements of that token become NaN.
    query: [tokens, heads * head_size] or [tokens, heads, head_size], written. Tokens and heads may
        have any strides, as in a slice of a joint query-key-value projection.
    key: likewise, with heads of its own number, or None.
    cos_sin_cache: [max_position, rotary_size], the dtype of query: for each position the cosines,
        then the sines, of rotary_size / 2 angles; rotary_size is even and at most head_size.
    """
    if _is_tracing():
        tracing.call("rotary_embedding", positions, query, key, head_size, cos_sin_cache, is_neox)
    else:
        _C.rotary_embedding(positions, query, key, head_size, cos_sin_cache, is_neox)


def rotary_and_cache(
    positions: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cos_sin_cache: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    slot_mapping: Tensor,
    query_weight: Optional[Tensor] = None,
    key_weight: Optional[Tensor] = None,
    epsilon: float = 0.0,
) -> None:
    """What comes between an attention's projections and the attention itself, in one pass.

    Each head of the query becomes rotary_embedding(rms_norm(head)), in place. Each head of the key
    goes likewise to its slot of the cache, and each of the value as it is; neither is written
    itself. Without a weight there is no norm. Pairs are NeoX's; nothing is rounded in between.

    positions: int64 [tokens], each in [0, max_position). Out of range: IndexError on the CPU,
        before anything is written; on CUDA what that token rotates becomes NaN.
    query: [tokens, heads, head_size], written; head_size is at most 256. Tokens and heads may have
        any strides, as in a slice of a joint projection; so may those of key and value.
    key, value: [tokens, kv_heads, head_size].
    cos_sin_cache: [max_position, rotary_size], as for `rotary_embedding`.
    key_cache, value_cache: [blocks, block_size, kv_heads, head_size], written; any strides but the
        last.
    slot_mapping: int64 [tokens], as for `reshape_and_cache`: -1 writes no key and value.
    query_weight, key_weight: [head_size], of the norms (Henry et al. 2020, arXiv:2010.04245, with
        an RMS norm in Qwen3), or None.
    epsilon: of both norms.
    """
    args = (
        positions,
        query,
        key,
        value,
        cos_sin_cache,
        key_cache,
        value_cache,
        slot_mapping,
        query_weight,
        key_weight,
        epsilon,
    )
    if _is_tracing():
        tracing.call("rotary_and_cache", *args)
    else:
        _C.rotary_and_cache(*args)


def reshape_and_cache(
    key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slot_mapping: Tensor
) -> None:
    """Writes the keys and values of new tokens into the slots of a paged cache.

    Slot s is token s % block_size of block s // block_size.

    key, value: [tokens, kv_heads, head_size], any strides but the last.
    key_cache, value_cache: [blocks, block_size, kv_heads, head_size], written; likewise.
    slot_mapping: int64 [tokens], each in [0, blocks * block_size), or -1 for a token that is left
        out. Out of range: IndexError on the CPU, before anything is written; on CUDA the token is
        left out. Which of two tokens with one slot stays there is not defined.
    """
    if _is_tracing():
        tracing.call("reshape_and_cache", key, value, key_cache, value_cache, slot_mapping)
    else:
        _C.reshape_and_cache(key, value, key_cache, value_cache, slot_mapping)


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


def plan_attention(
    items: Tensor,
    context_lens: Tensor,
    query_starts: Tensor,
    heads: int,
    kv_heads: int,
    sliding_window: int,
    blocks: int,
) -> Tuple[int, int, int, int]:
    """Divides the attention of a step among the blocks of a GPU: once for all layers that have
    these heads and this window. Everything is on the CPU, and no GPU is asked.

    Keys and values that decoding tokens read are cut into `blocks` pieces of about equal length
    (Flash-Decoding, Dao et al. 2023, with the cuts of stream-K, arXiv:2301.03598), those of a
    sequence's KV heads alike; prefills are cut into tiles of rows, and
    these over keys as well where there are too few for the blocks.

    items: int32 [items, item_ints], written; `attention_plan_sizes` says how many are enough.
        ValueError says how many are, where it is too small.
    context_lens, query_starts: int32, as `paged_attention` takes them.
    blocks: as many as run on the GPU at once; see `attention_blocks`.

    Returns the number of lists of decode items, of which list i begins at item i; where the prefill
    items begin, behind their number, which is item `blocks`; that number; and how many items there
    are in all.
    """
    decode_blocks, prefill_first, prefill_tiles, used = _C.plan_attention(
        items, context_lens, query_starts, heads, kv_heads, sliding_window, blocks
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
) -> None:
    """Causal attention of new tokens over a paged cache (Kwon et al. 2023, arXiv:2309.06180).

    The query tokens of a sequence are the last of those that its cache holds: one for decoding,
    all of them for a prefill, something between for a chunk or behind a shared prefix. A token
    sees itself and what is before it.

    On CUDA, float16 and bfloat16 use tensor cores where head_size is 64, 80, 96, 128 or 256, blocks
    are of a multiple of 16 tokens, every head of the cache begins at a multiple of 16 bytes, and
    the GPU has them (compute capability 7.5 for float16, 8.0 for bfloat16); all else is slower. The
    weights are rounded to the dtype before they multiply values. Prefills of head_size 64, 80, 96,
    128, 192 or 256 with a positive scale run at Hopper's full speed (9.0, from CUDA 12 on) where
    blocks are of 2 ** n tokens, 16 or more, and heads of `query` and `out` begin at multiples of 16
    bytes.

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
        items,
        arrivals,
        partials,
        *counts,
    )
    if _is_tracing():
        tracing.call("paged_attention", *args)
    else:
        _C.paged_attention(*args)


def penalize(
    logits: Tensor, rows: Tensor, tokens: Tensor, repetition: Tensor, subtract: Tensor
) -> None:
    """Changes single logits in place: a positive one is divided by its factor of repetition,
    another multiplied (Keskar et al. 2019, arXiv:1909.05858); then what is to subtract is
    subtracted.

    logits: [rows, vocab], written.
    rows, tokens: int64 [changes], which logits; no pair may come twice. Out of range: IndexError on
        the CPU, before anything is written; on CUDA that change is left out.
    repetition: float32 [changes], 1 for no such penalty.
    subtract: float32 [changes], infinite where a token is forbidden.
    """
    if _is_tracing():
        tracing.call("penalize", logits, rows, tokens, repetition, subtract)
    else:
        _C.penalize(logits, rows, tokens, repetition, subtract)


def sample(
    out: Tensor,
    logits: Tensor,
    temperatures: Optional[Tensor] = None,
    top_k: Optional[Tensor] = None,
    top_p: Optional[Tensor] = None,
    min_p: Optional[Tensor] = None,
    seeds: Optional[Tensor] = None,
    draws: Optional[Tensor] = None,
    workspace: Optional[Tensor] = None,
) -> None:
    """Draws a token from every row of logits.

    A draw is a function of the row, its parameters, its seed and its count, and of nothing else:
    not of other rows or of threads. Devices and instruction sets differ by rounding only. In
    float32, with z = (max - logit) / temperature and weights exp(-z):

    * top-k keeps the tokens whose z is at most the k-th least;
    * top-p (Holtzman et al. 2019, arXiv:1904.09751) keeps those of them before which, in order of
      z, less than p of their mass lies;
    * min-p (Nguyen et al. 2024, arXiv:2407.01082) keeps the tokens that weigh at least min_p;
    * a number that is uniform in [0, 1), SplitMix64's hash of seed and count, falls into the
      stretch of one of them in the cumulative distribution, in the order of ids.

    Tokens of equal z are kept or dropped together. One with a weight below 2**-32 is never drawn,
    nor is NaN or -inf; of a row with nothing else, token 0 is. Where there is +inf, it is drawn.

    out: int64 [rows], written.
    logits: [rows, vocab], not written; any stride between rows.
    temperatures: float32 [rows]; 0 takes the first of the most likely tokens. None: all 0.
    top_k: int64 [rows]; below 1, or at least vocab: all tokens. None: all.
    top_p: float32 [rows]; 1: all tokens. None: all.
    min_p: float32 [rows]; 0: all tokens. None: all.
    seeds, draws: int64 [rows], required with temperatures: of the request, and how many tokens it
        has drawn before.
    workspace: on CUDA, int64 of at least `sample_workspace_size(rows, vocab)`, overwritten.
    """
    if _is_tracing():
        tracing.call(
            "sample", out, logits, temperatures, top_k, top_p, min_p, seeds, draws, workspace
        )
    else:
        _C.sample(out, logits, temperatures, top_k, top_p, min_p, seeds, draws, workspace)


def sample_workspace_size(rows: int, vocab: int) -> int:
    """The int64 elements of the workspace that `sample` needs on CUDA for [rows, vocab] logits."""
    return int(_C.sample_workspace_size(rows, vocab))
