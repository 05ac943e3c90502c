"""From logits to tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from vllm.ops import tracing
from vllm.ops.native import _C

if TYPE_CHECKING:
    from vllm.ops.native import Tensor


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
    if tracing.is_tracing():
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
    if tracing.is_tracing():
        tracing.call(
            "sample", out, logits, temperatures, top_k, top_p, min_p, seeds, draws, workspace
        )
    else:
        _C.sample(out, logits, temperatures, top_k, top_p, min_p, seeds, draws, workspace)


def sample_workspace_size(rows: int, vocab: int) -> int:
    """The int64 elements of the workspace that `sample` needs on CUDA for [rows, vocab] logits."""
    return int(_C.sample_workspace_size(rows, vocab))
