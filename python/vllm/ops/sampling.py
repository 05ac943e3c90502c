"""From logits to tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from vllm.ops import tracing
from vllm.ops.native import _C

if TYPE_CHECKING:
    from vllm.ops.native import Tensor


def count_tokens(
    seen: Tensor, uses: Tensor, counters: Tensor, starts: Tensor, tokens: Tensor, counts: Tensor
) -> None:
    """Begins counters of tokens anew, for `penalize`.

    Out of range: IndexError on the CPU, before anything is written; on CUDA left out.

    seen: int32 [counters, vocab / 32 rounded up], written: a bit for each token, the lowest first.
    uses: int32 [counters, vocab], written: how often each seen token is in the output. Of others
        it says nothing, and may be uninitialised.
    counters: int64 [lists], which counter each list is for, none twice; below 0: for none.
    starts: int64 [lists + 1]; list i has the tokens from starts[i] up to starts[i + 1].
    tokens, counts: int64 [tokens of all lists], each token once in a list, and its uses.
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
    """Counts the token that each row comes from, then changes the logits of all tokens that its
    sequence has, in place: a positive one is divided by the factor of repetition, another
    multiplied (Keskar et al. 2019, arXiv:1909.05858); if the output has the token, presence is
    subtracted, and frequency as often as it does.

    Out of range: IndexError on the CPU, before anything is written; on CUDA left out.

    logits: float32 [rows, vocab], written.
    inputs: int64 [rows], the token that each row comes from.
    counters: int64 [rows], which counter each row's sequence has, none twice; below 0: none, and
        the row stays as it is.
    counts: int64 [rows], 1 where that token is one of the output, 0 where it is of the prompt.
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
    """Adds to single logits in place. Amounts for the same logit add up.

    Out of range: IndexError on the CPU, before anything is written; on CUDA left out.

    logits: float32 [rows, vocab], written.
    rows, tokens: int64 [changes], which logits; below 0 in rows: none.
    amounts: float32 [changes], minus infinity where a token is forbidden.
    after: int64 [changes]: only where the row comes from this token; below 0: in any case.
    inputs: int64 [rows], the token that each row comes from.
    """
    if tracing.is_tracing():
        tracing.call("bias_logits", logits, rows, tokens, amounts, after, inputs)
    else:
        _C.bias_logits(logits, rows, tokens, amounts, after, inputs)


def mask_logits(logits: Tensor, rows: Tensor, bits: Tensor) -> None:
    """Makes logits of tokens that may not be drawn minus infinity, in place.

    Out of range: IndexError on the CPU, before anything is written; on CUDA left out.

    logits: [rows, vocab], written.
    rows: int64 [masks], which row each mask is for; below 0: for none.
    bits: int32 [masks, vocab / 32 rounded up], a bit for each token that may be drawn, the lowest
        first.
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
    if tracing.is_tracing():
        tracing.call(
            "sample", out, logits, temperatures, top_k, top_p, min_p, seeds, draws, workspace
        )
    else:
        _C.sample(out, logits, temperatures, top_k, top_p, min_p, seeds, draws, workspace)


def sample_workspace_size(rows: int, vocab: int) -> int:
    """The int64 elements of the workspace that `sample` needs on CUDA for [rows, vocab] logits."""
    return int(_C.sample_workspace_size(rows, vocab))
