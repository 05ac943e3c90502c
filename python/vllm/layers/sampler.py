"""From logits to tokens, for a whole batch at once.

A draw is a function of the logits, a seed and a count, and of nothing else: no generator keeps
state. So a request gives the same tokens whoever shares its batch, and after a preemption. What
exactly is drawn is said in `vllm.ops.sample`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

import torch

from vllm import ops


@dataclass(frozen=True)
class TokenCounters:
    """Which tokens sequences have, and how often they have said them; see `ops.count_tokens`."""

    seen: torch.Tensor  # int32 [counters, vocab / 32 rounded up]
    uses: torch.Tensor  # int32 [counters, vocab]

    @classmethod
    def make(cls, counters: int, vocab_size: int, device: torch.device) -> TokenCounters:
        """Uninitialised: whoever gets a counter begins it. Untouched, it takes no memory on a
        CPU."""
        words = -(-vocab_size // 32)
        return cls(
            torch.empty(counters, words, dtype=torch.int32, device=device),
            torch.empty(counters, vocab_size, dtype=torch.int32, device=device),
        )


@dataclass(frozen=True)
class FreshCounters:
    """Counters that begin; see `ops.count_tokens`."""

    counters: torch.Tensor  # int64 [lists]
    starts: torch.Tensor  # int64 [lists + 1]
    tokens: torch.Tensor  # int64 [tokens]
    counts: torch.Tensor  # int64 [tokens]


@dataclass(frozen=True)
class Penalties:
    """Of each row, see `ops.penalize`; and the counters that begin with this step."""

    fresh: Optional[FreshCounters]
    counters: torch.Tensor  # int64 [rows]
    counts: torch.Tensor  # int64 [rows]
    repetition: torch.Tensor  # float32 [rows]
    presence: torch.Tensor  # float32 [rows]
    frequency: torch.Tensor  # float32 [rows]


@dataclass(frozen=True)
class LogitChanges:
    """Changes to single logits; see `ops.bias_logits`."""

    rows: torch.Tensor  # int64 [changes]
    tokens: torch.Tensor  # int64 [changes]
    amounts: torch.Tensor  # float32 [changes]
    after: torch.Tensor  # int64 [changes]


@dataclass(frozen=True)
class SamplingTensors:
    """How to sample each row of a batch, one entry per row; None where no row asks for it.

    temperatures: 0 in greedy rows; None: all of them are.
    top_k: 0 where all tokens may be drawn.
    draws: how many tokens the sequence has drawn before.
    """

    temperatures: Optional[torch.Tensor] = None  # float32
    top_k: Optional[torch.Tensor] = None  # int64
    top_p: Optional[torch.Tensor] = None  # float32
    min_p: Optional[torch.Tensor] = None  # float32
    seeds: Optional[torch.Tensor] = None  # int64
    draws: Optional[torch.Tensor] = None  # int64
    penalties: Optional[Penalties] = None
    changes: Optional[LogitChanges] = None


def change_logits(
    logits: torch.Tensor,
    how: SamplingTensors,
    inputs: torch.Tensor,
    counters: TokenCounters,
) -> torch.Tensor:
    """The logits with penalties and single changes, in float32: in place, if they are that.

    logits: [rows, vocab].
    inputs: int64 [rows], the tokens that the rows come from.
    counters: of the sequences with penalties; they count those tokens.
    """
    penalties, changes = how.penalties, how.changes
    if penalties is None and changes is None:
        return logits
    logits = logits.float()
    seen, uses = counters.seen, counters.uses
    if penalties is not None:
        fresh = penalties.fresh
        if fresh is not None:
            ops.count_tokens(seen, uses, fresh.counters, fresh.starts, fresh.tokens, fresh.counts)
        ops.penalize(
            logits,
            inputs,
            penalties.counters,
            penalties.counts,
            penalties.repetition,
            penalties.presence,
            penalties.frequency,
            seen,
            uses,
        )
    if changes is not None:
        ops.bias_logits(
            logits, changes.rows, changes.tokens, changes.amounts, changes.after, inputs
        )
    return logits


def sample(
    logits: torch.Tensor, how: SamplingTensors, out: Optional[torch.Tensor] = None
) -> torch.Tensor:
    """[rows, vocab], changed by now -> int64 [rows], in `out` if there is one."""
    if out is None:
        out = torch.empty(len(logits), dtype=torch.int64, device=logits.device)
    workspace = None
    if logits.is_cuda:
        workspace = out.new_empty(ops.sample_workspace_size(*logits.shape))
    ops.sample(
        out,
        logits,
        how.temperatures,
        how.top_k,
        how.top_p,
        how.min_p,
        how.seeds,
        how.draws,
        workspace,
    )
    return out


def token_logprobs(
    logits: torch.Tensor, tokens: torch.Tensor, num_best: int
) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the model thought of each token, and of its own favourites.

    [rows, vocab] and int64 [rows] -> float32 log-probabilities [rows], ranks [rows] (1 is the
    most likely), and the log-probabilities and ids, [rows, num_best], of the most likely tokens.
    """
    logprobs = logits.log_softmax(dim=-1, dtype=torch.float32)
    chosen = logprobs.gather(-1, tokens[:, None])
    ranks = (logprobs > chosen).sum(dim=-1) + 1
    best = logprobs.topk(min(num_best, logits.shape[-1]), dim=-1)
    return chosen[:, 0], ranks, best.values, best.indices
