"""From logits to tokens, for a whole batch at once.

A draw is a function of the logits, a seed and a count, and of nothing else: no generator keeps
state. So a request gives the same tokens whoever shares its batch, and after a preemption.

Top-k, top-p and min-p each keep the tokens above some logit; the highest of the three wins.
Tokens with exactly that logit are all kept, so that the result does not depend on their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

import torch
from torch.nn import functional

_NOTHING = -float("inf")
_BLOCK = 128  # tokens; the vocabularies of most models are a multiple
_FIRST_WIDTH = 256  # tokens looked at for top-p before looking at more; most nuclei are smaller


@dataclass(frozen=True)
class LogitChanges:
    """Changes to single logits, one entry per (row, token) that something applies to.

    repetition: what the logit is divided by if positive, multiplied by if negative.
    subtract: what is subtracted then; infinite where a token is forbidden.
    """

    rows: torch.Tensor  # int64 [changes]
    tokens: torch.Tensor  # int64 [changes]
    repetition: torch.Tensor  # float32 [changes]
    subtract: torch.Tensor  # float32 [changes]


@dataclass(frozen=True)
class SamplingTensors:
    """How to sample each row of a batch; None where no row asks for it.

    The tensors from `temperatures` to `draws` have one entry per row of `random_rows`.
    top_k: the vocabulary's size where all tokens may be drawn.
    draws: how many tokens the sequence has drawn before.
    """

    random_rows: Optional[torch.Tensor] = None  # int64, rows that are not greedy
    temperatures: Optional[torch.Tensor] = None  # float32
    top_k: Optional[torch.Tensor] = None  # int64
    top_p: Optional[torch.Tensor] = None  # float32
    min_p: Optional[torch.Tensor] = None  # float32
    seeds: Optional[torch.Tensor] = None  # int64
    draws: Optional[torch.Tensor] = None  # int64
    changes: Optional[LogitChanges] = None


def sample(logits: torch.Tensor, how: SamplingTensors) -> torch.Tensor:
    """float32 [rows, vocab] -> int64 [rows]. Changes the logits in place."""
    if how.changes is not None:
        change_logits(logits, how.changes)
    if how.random_rows is None:
        return most_likely(logits)
    assert how.temperatures is not None
    assert how.seeds is not None
    assert how.draws is not None
    everyone = len(how.random_rows) == len(logits)
    scaled = logits if everyone else logits[how.random_rows]
    # Subtracting the maximum first keeps a tiny temperature from overflowing.
    scaled.sub_(scaled.amax(dim=-1, keepdim=True)).div_(how.temperatures[:, None])
    threshold = keep_threshold(scaled, how.top_k, how.top_p, how.min_p)
    if threshold is not None:
        scaled.masked_fill_(scaled < threshold, _NOTHING)
    drawn = draw(scaled, uniform(how.seeds, how.draws))
    if everyone:
        return drawn
    tokens = most_likely(logits)
    tokens[how.random_rows] = drawn
    return tokens


def most_likely(logits: torch.Tensor) -> torch.Tensor:
    """The argmax of each row, [rows, vocab] -> int64 [rows].

    First the best block, then the best within it: torch finds maxima four times as fast as where
    they are.
    """
    blocks = _in_blocks(logits, fill=_NOTHING)
    best = blocks.amax(dim=-1).argmax(dim=-1)
    return best * _BLOCK + _block_of_each_row(blocks, best).argmax(dim=-1)


def change_logits(logits: torch.Tensor, changes: LogitChanges) -> None:
    """Applies penalties and prohibitions to [rows, vocab] logits, in place."""
    values = logits[changes.rows, changes.tokens]
    repetition = changes.repetition
    values = torch.where(values > 0, values / repetition, values * repetition)
    logits[changes.rows, changes.tokens] = values - changes.subtract


def keep_threshold(
    scaled: torch.Tensor,
    top_k: Optional[torch.Tensor],
    top_p: Optional[torch.Tensor],
    min_p: Optional[torch.Tensor],
) -> Optional[torch.Tensor]:
    """The least logit that may be drawn in each row, [rows, 1]; None if all may be.

    scaled: logits divided by the temperature, whose maximum in each row is 0.
    """
    threshold = None
    if top_k is not None:
        threshold = _top_k_threshold(scaled, top_k)
    if top_p is not None:
        among = scaled if threshold is None else scaled.masked_fill(scaled < threshold, _NOTHING)
        nucleus = _top_p_threshold(among, top_p)
        threshold = nucleus if threshold is None else torch.maximum(threshold, nucleus)
    if min_p is not None:
        least = min_p.log()[:, None]
        threshold = least if threshold is None else torch.maximum(threshold, least)
    return threshold


def _top_k_threshold(scaled: torch.Tensor, top_k: torch.Tensor) -> torch.Tensor:
    vocab_size = scaled.shape[-1]
    bounded = top_k < vocab_size
    widest = int(torch.where(bounded, top_k, 1).max())
    best = scaled.topk(widest, dim=-1).values
    kth = best.gather(-1, (top_k.clamp(max=widest) - 1)[:, None])
    return kth.masked_fill(~bounded[:, None], _NOTHING)


def _top_p_threshold(scaled: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """The logit of the last token of each nucleus, [rows, 1].

    Sorting the vocabulary is most of the cost of top-p. The best few hundred tokens usually hold
    the nucleus; only rows in which they do not are looked at again, more widely.
    """
    rows, vocab_size = scaled.shape
    threshold = scaled.new_full((rows, 1), _NOTHING)
    log_total = scaled.logsumexp(dim=-1, keepdim=True)
    todo = (top_p < 1).nonzero()[:, 0]
    width = _FIRST_WIDTH
    while len(todo):
        width = min(width, vocab_size)
        best = scaled[todo].topk(width, dim=-1).values
        probabilities = (best - log_total[todo]).exp()
        before = probabilities.cumsum(dim=-1) - probabilities
        inside = before < top_p[todo][:, None]
        size = inside.sum(dim=-1, keepdim=True)
        threshold[todo] = best.gather(-1, size - 1)
        if width == vocab_size:
            break
        todo = todo[size[:, 0] == width]
        width *= 8
    return threshold


def draw(scaled: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """One token per row with probability softmax(scaled), where the uniform number says.

    scaled: its maximum in each row is 0. Overwritten.

    The number picks the token in whose stretch of the cumulative distribution it falls; a token of
    probability zero has no stretch. First the block is found, then the token in it, for a sum over
    the vocabulary would be slow and round more.
    """
    weights = _in_blocks(scaled.exp_(), fill=0.0)
    ends = weights.sum(dim=-1).cumsum(dim=-1)
    target = _below(uniforms[:, None] * ends[:, -1:], ends[:, -1:])
    block = torch.searchsorted(ends, target, right=True)
    begin = torch.where(block > 0, ends.gather(-1, (block - 1).clamp(min=0)), 0.0)
    inside = _block_of_each_row(weights, block[:, 0]).cumsum(dim=-1)
    rest = _below(target - begin, inside[:, -1:])
    return (block * _BLOCK + torch.searchsorted(inside, rest, right=True))[:, 0]


def _below(x: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """x, but where rounding has carried it up to the end, the number before that."""
    return torch.minimum(x, end.nextafter(torch.zeros_like(end)))


def _in_blocks(x: torch.Tensor, fill: float) -> torch.Tensor:
    """[rows, vocab] -> [rows, blocks, _BLOCK], without a copy where the vocabulary allows it."""
    rows, vocab_size = x.shape
    missing = -vocab_size % _BLOCK
    if missing:
        x = functional.pad(x, (0, missing), value=fill)
    return x.view(rows, -1, _BLOCK)


def _block_of_each_row(blocks: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """[rows, blocks, _BLOCK] and int64 [rows] -> [rows, _BLOCK]."""
    return blocks[torch.arange(len(blocks), device=blocks.device), which]


def uniform(seeds: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """A float32 in [0, 1) for each (seed, draw): SplitMix64's output function, applied twice."""
    bits = _mix(_mix(seeds) + draws * _GOLDEN)
    return _shift_right(bits, 40).to(torch.float32) * 2.0**-24


# Steele, Lea, Flood: "Fast splittable pseudorandom number generators" (2014), as signed integers.
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MULTIPLIER_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MULTIPLIER_2 = 0x94D049BB133111EB - (1 << 64)


def _mix(x: torch.Tensor) -> torch.Tensor:
    x = x + _GOLDEN
    x = (x ^ _shift_right(x, 30)) * _MULTIPLIER_1
    x = (x ^ _shift_right(x, 27)) * _MULTIPLIER_2
    return x ^ _shift_right(x, 31)


def _shift_right(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Shifts int64 as if it were unsigned, which torch lacks."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def token_logprobs(
    logits: torch.Tensor, tokens: torch.Tensor, num_best: int
) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the model thought of each token, and of its own favourites.

    float32 [rows, vocab] and int64 [rows] -> log-probabilities [rows], ranks [rows] (1 is the
    most likely), and the log-probabilities and ids, [rows, num_best], of the most likely tokens.
    """
    logprobs = logits.log_softmax(dim=-1)
    chosen = logprobs.gather(-1, tokens[:, None])
    ranks = (logprobs > chosen).sum(dim=-1) + 1
    best = logprobs.topk(min(num_best, logits.shape[-1]), dim=-1)
    return chosen[:, 0], ranks, best.values, best.indices
