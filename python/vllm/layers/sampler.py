"""Samples tokens from logits, for a whole batch at once.

A sample is a pure function of the logits, a seed and a counter; there is no generator state. So a
request gets the same tokens whatever else is in its batch, and after a preemption.
`vllm.ops.sample` defines the function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

import torch

from vllm import ops


@dataclass(frozen=True)
class TokenCounters:
    """Which tokens each sequence has, and how often its output has them; see `ops.count_tokens`."""

    seen: torch.Tensor  # int32 [counters, vocab / 32 rounded up]
    uses: torch.Tensor  # int32 [counters, vocab]

    @classmethod
    def make(cls, counters: int, vocab_size: int, device: torch.device) -> TokenCounters:
        """Allocates without initialising: `ops.count_tokens` initialises a counter when a sequence
        gets it. On a CPU, untouched pages take no memory."""
        words = -(-vocab_size // 32)
        return cls(
            torch.empty(counters, words, dtype=torch.int32, device=device),
            torch.empty(counters, vocab_size, dtype=torch.int32, device=device),
        )


@dataclass(frozen=True)
class FreshCounters:
    """Counters to initialise; see `ops.count_tokens`."""

    counters: torch.Tensor  # int64 [lists]
    starts: torch.Tensor  # int64 [lists + 1]
    tokens: torch.Tensor  # int64 [tokens]
    counts: torch.Tensor  # int64 [tokens]


@dataclass(frozen=True)
class Penalties:
    """The penalties of each row (see `ops.penalize`), and the counters to initialise first."""

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
    """Sampling parameters, one entry per row; None if no row uses the parameter.

    temperatures: 0 for greedy rows; None if all rows are greedy.
    top_k: 0 for no limit.
    draws: how many tokens the sequence has sampled before.
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
    """Applies penalties and logit changes. Returns float32; float32 logits are changed in place.

    logits: [rows, vocab].
    inputs: int64 [rows], the input token of each row, which is counted.
    counters: of the sequences with penalties.
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
    """Samples from logits that `change_logits` returned: [rows, vocab] -> int64 [rows].

    out: where to write the tokens; allocated if None.
    """
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
    """The log-probability of one token per row, and those of the most likely tokens.

    [rows, vocab] and int64 [rows] -> float32 log-probabilities [rows], ranks [rows] (1 is the
    most likely), and the log-probabilities and ids, [rows, num_best], of the most likely tokens.
    """
    logprobs = logits.log_softmax(dim=-1, dtype=torch.float32)
    chosen = logprobs.gather(-1, tokens[:, None])
    ranks = (logprobs > chosen).sum(dim=-1) + 1
    best = logprobs.topk(min(num_best, logits.shape[-1]), dim=-1)
    return chosen[:, 0], ranks, best.values, best.indices
