"""The sampler: its distribution, its truncations and its independence, on plain tensors."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from tests.reference import sample as reference
from vllm.layers.sampler import (
    LogitChanges,
    SamplingTensors,
    TokenCounters,
    change_logits,
    sample,
    token_logprobs,
)


def tensors(rows, *, temperature=1.0, seed=0, **how):
    """The same parameters for every row, each with its own draw."""

    def full(name, dtype):
        return torch.full((rows,), how[name], dtype=dtype) if name in how else None

    return SamplingTensors(
        temperatures=torch.full((rows,), float(temperature)),
        top_k=full("top_k", torch.int64),
        top_p=full("top_p", torch.float32),
        min_p=full("min_p", torch.float32),
        seeds=torch.full((rows,), seed, dtype=torch.int64),
        draws=torch.arange(rows),
    )


def chi_square(counts, probabilities):
    """Pearson's statistic, and the value that chance exceeds once in a million."""
    total = counts.sum()
    possible = probabilities > 0
    expected = probabilities[possible] * total
    statistic = ((counts[possible] - expected) ** 2 / expected).sum().item()
    freedom = int(possible.sum()) - 1
    # Wilson and Hilferty's approximation; 4.75 is the normal quantile of 1 - 1e-6.
    spread = 2 / (9 * freedom)
    return statistic, freedom * (1 - spread + 4.75 * math.sqrt(spread)) ** 3


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 3.0},
        {"top_k": 5},
        {"top_p": 0.7},
        {"min_p": 0.2},
        {"temperature": 1.7, "top_k": 12, "top_p": 0.9, "min_p": 0.05},
    ],
)
def test_draws_follow_the_distribution(how):
    rows, vocab = 100_000, 24
    logits = torch.randn(vocab, generator=torch.Generator().manual_seed(3)) * 1.5
    tokens = sample(logits.repeat(rows, 1), tensors(rows, seed=11, **how))
    counts = torch.bincount(tokens, minlength=vocab).double()
    expected = torch.from_numpy(reference.distribution(logits.numpy(), **how))
    assert counts[expected == 0].sum() == 0
    statistic, limit = chi_square(counts, expected)
    assert statistic < limit


def test_draws_of_different_seeds_and_counts_are_independent():
    """Pairs of draws that share a seed, or a count, fill the unit square evenly."""
    n, cells = 100_000, 10
    logits = torch.zeros(n, cells)
    many, zero = torch.arange(n), torch.zeros(n, dtype=torch.int64)

    def draw(seeds, draws):
        temperatures = torch.ones(n)
        return sample(logits, SamplingTensors(temperatures=temperatures, seeds=seeds, draws=draws))

    for first, second in [
        (draw(zero, many), draw(zero, many + 1)),
        (draw(many, zero), draw(many + 1, zero)),
        (draw(many, zero), draw(many, zero + 1)),
    ]:
        counts = torch.bincount(first * cells + second, minlength=cells**2).double()
        statistic, limit = chi_square(counts, torch.full((cells**2,), 0.01, dtype=torch.float64))
        assert statistic < limit


def test_a_row_does_not_depend_on_its_company():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(16, 500, generator=generator) * 2
    everyone = SamplingTensors(
        temperatures=torch.rand(16, generator=generator).sub(0.2).clamp(min=0),
        top_k=torch.randint(0, 501, (16,), generator=generator),
        top_p=torch.rand(16, generator=generator).clamp(min=0.1),
        min_p=torch.rand(16, generator=generator) * 0.1,
        seeds=torch.randint(1 << 60, (16,), generator=generator),
        draws=torch.arange(16),
    )
    together = sample(logits.clone(), everyone)
    for row in range(16):
        one = slice(row, row + 1)
        each = {name: value[one] for name, value in vars(everyone).items() if value is not None}
        alone = dataclasses.replace(everyone, **each)
        assert sample(logits[one].clone(), alone).item() == together[row].item()


def test_greedy_and_random_rows_in_one_batch():
    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    how = tensors(6, seed=5)
    how.temperatures[[0, 2, 3, 5]] = 0
    tokens = sample(logits.clone(), how)
    greedy = logits.argmax(-1)
    assert tokens[[0, 2, 3, 5]].tolist() == greedy[[0, 2, 3, 5]].tolist()
    assert tokens[1] == reference.sample(logits[1].numpy(), 1.0, 5, 1)
    assert sample(logits.clone(), SamplingTensors()).tolist() == greedy.tolist()


def test_changes_add_to_logits_of_rows_that_come_from_some_token():
    logits = torch.tensor([[2.0, -2.0, 1.0], [4.0, 0.0, -1.0]], dtype=torch.float16)
    changes = LogitChanges(
        rows=torch.tensor([0, 0, 1, 1, -1]),
        tokens=torch.tensor([0, 1, 0, 2, 0]),
        amounts=torch.tensor([-1.5, 7.0, -float("inf"), 2.0, 9.0]),
        after=torch.tensor([-1, 8, 9, -1, -1]),
    )
    counters = TokenCounters.make(1, 3, logits.device)
    how, inputs = SamplingTensors(changes=changes), torch.tensor([7, 9])
    changed = change_logits(logits, how, inputs, counters)
    assert changed.tolist() == [[0.5, -2.0, 1.0], [-float("inf"), 0.0, 1.0]]
    assert sample(changed, how).tolist() == [2, 2]
    assert change_logits(logits, SamplingTensors(), inputs, counters) is logits


def test_token_logprobs_against_sorting():
    logits = torch.randn(5, 30, generator=torch.Generator().manual_seed(2))
    tokens = torch.tensor([0, 7, 29, 3, 3])
    chosen, ranks, values, ids = token_logprobs(logits, tokens, 4)
    for row in range(5):
        logprobs = logits[row].double() - logits[row].double().exp().sum().log()
        order = sorted(range(30), key=lambda i: -logprobs[i])
        assert chosen[row].item() == pytest.approx(logprobs[tokens[row]].item(), abs=1e-5)
        assert order[ranks[row] - 1] == tokens[row]
        assert ids[row].tolist() == order[:4]
        assert values[row].tolist() == pytest.approx([logprobs[i].item() for i in order[:4]])
