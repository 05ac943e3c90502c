"""Logit processing and sampling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from vllm.ops import tracing
from vllm.ops.native import _C

if TYPE_CHECKING:
    from vllm.ops.native import Tensor


def count_tokens(
    seen: Tensor, uses: Tensor, counters: Tensor, starts: Tensor, tokens: Tensor, counts: Tensor
) -> None:
    """Initialises token counters for `penalize`.

    Out of range: IndexError on the CPU, before anything is written; on CUDA skipped.

    seen: int32 [counters, vocab / 32 rounded up], written: bit i (lowest first) is set if the
        sequence has token i.
    uses: int32 [counters, vocab], written: how often each seen token occurs in the output. Entries
        of other tokens are not used, and may be uninitialised.
    counters: int64 [lists], the counter (row of `seen` and `uses`) that each list initialises; no
        counter twice; negative: skipped.
    starts: int64 [lists + 1]; list i has the tokens [starts[i], starts[i + 1]).
    tokens, counts: int64 [tokens of all lists]: each distinct token of a list, and its uses.
    """
    if tracing.is_tracing():
        tracing.call("count_tokens", seen, uses, counters, starts, tokens, counts)
    else:
        _C.count_tokens(seen, uses, counters, starts, tokens, counts)


def penalize(
    logits: Tensor,
    inputs: Tensor,
    counters: Tensor,
    counts: Tensor,
    repetition: Tensor,
    presence: Tensor,
    frequency: Tensor,
    seen: Tensor,
    uses: Tensor,
) -> None:
    """Counts the input token of each row, then penalises the logits of all tokens that its sequence
    has, in place: repetition divides positive logits and multiplies others (Keskar et al. 2019,
    arXiv:1909.05858); if the token occurs n > 0 times in the output, presence is subtracted once
    and frequency n times.

    Out of range: IndexError on the CPU, before anything is written; on CUDA skipped.

    logits: float32 [rows, vocab], written.
    inputs: int64 [rows], the input token of each row.
    counters: int64 [rows], the counter of each row's sequence; no counter twice; negative: the row
        is not changed.
    counts: int64 [rows], 1 if the input token belongs to the output, 0 if to the prompt.
    repetition, presence, frequency: float32 [rows].
    seen, uses: the counters, see `count_tokens`; written.
    """
    arguments = (logits, inputs, counters, counts, repetition, presence, frequency, seen, uses)
    if tracing.is_tracing():
        tracing.call("penalize", *arguments)
    else:
        _C.penalize(*arguments)


def bias_logits(
    logits: Tensor, rows: Tensor, tokens: Tensor, amounts: Tensor, after: Tensor, inputs: Tensor
) -> None:
    """Adds amounts to single logits, in place. Amounts for the same logit add up.

    Out of range: IndexError on the CPU, before anything is written; on CUDA skipped.

    logits: float32 [rows, vocab], written.
    rows, tokens: int64 [changes], the indices of the logits; a negative row is skipped.
    amounts: float32 [changes]; -inf excludes the token.
    after: int64 [changes]: the change applies only if this is the row's input token; negative:
        always.
    inputs: int64 [rows], the input token of each row.
    """
    if tracing.is_tracing():
        tracing.call("bias_logits", logits, rows, tokens, amounts, after, inputs)
    else:
        _C.bias_logits(logits, rows, tokens, amounts, after, inputs)


def mask_logits(logits: Tensor, rows: Tensor, bits: Tensor) -> None:
    """Sets the logits of excluded tokens to -inf, in place.

    Out of range: IndexError on the CPU, before anything is written; on CUDA skipped.

    logits: [rows, vocab], written.
    rows: int64 [masks], the row of each mask; negative: skipped.
    bits: int32 [masks, vocab / 32 rounded up]; bit i (lowest first) is set if token i is allowed.
        On CUDA, rows and bits may be in pinned memory of the host.
    """
    if tracing.is_tracing():
        tracing.call("mask_logits", logits, rows, bits)
    else:
        _C.mask_logits(logits, rows, bits)


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
    """Samples a token from every row of logits.

    The result depends only on the row, its parameters, its seed and its draw counter, not on other
    rows or on threads. Devices and instruction sets differ by rounding only. In float32, with
    z = (max - logit) / temperature and weights exp(-z):

    * top-k keeps the tokens whose z is at most the k-th smallest;
    * top-p (Holtzman et al. 2019, arXiv:1904.09751) keeps those of them for which the tokens with a
      smaller z have less than p of the mass;
    * min-p (Nguyen et al. 2024, arXiv:2407.01082) keeps the tokens with a weight of at least min_p;
    * a uniform number in [0, 1), SplitMix64's hash of seed and counter, selects one of them from
      the cumulative distribution in the order of token ids.

    Tokens of equal z are kept or dropped together. A token with a weight below 2**-32, or a logit
    of NaN or -inf, is never sampled; if a row has nothing else, the result is token 0. A token with
    +inf is always sampled.

    out: int64 [rows], written.
    logits: [rows, vocab], not written; any stride between rows.
    temperatures: float32 [rows]; 0 takes the first of the most likely tokens. None: all 0.
    top_k: int64 [rows]; below 1, or at least vocab: all tokens. None: all.
    top_p: float32 [rows]; 1: all tokens. None: all.
    min_p: float32 [rows]; 0: all tokens. None: all.
    seeds, draws: int64 [rows], required with temperatures: the request's seed, and how many tokens
        it has sampled before.
    workspace: on CUDA, int64 of at least `sample_workspace_size(rows, vocab)`, overwritten.
    """
    if tracing.is_tracing():
        tracing.call(
            "sample", out, logits, temperatures, top_k, top_p, min_p, seeds, draws, workspace
        )
    else:
        _C.sample(out, logits, temperatures, top_k, top_p, min_p, seeds, draws, workspace)


def sample_workspace_size(rows: int, vocab: int) -> int:
    """The int64 elements of the workspace that `sample` needs on CUDA for [rows, vocab] logits."""
    return int(_C.sample_workspace_size(rows, vocab))
