"""The sampler: its distribution, its truncations and its independence, on plain tensors."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm.layers.sampler import (
    LogitChanges,
    SamplingTensors,
    draw,
    keep_threshold,
    most_likely,
    sample,
    token_logprobs,
    uniform,
)


def tensors(rows, *, temperature=1.0, seed=0, draws=None, **how):
    """The same parameters for every row, each with its own draw."""
    return SamplingTensors(
        random_rows=torch.arange(rows),
        temperatures=torch.full((rows,), float(temperature)),
        seeds=torch.full((rows,), seed, dtype=torch.int64),
        draws=torch.arange(rows) if draws is None else draws,
        top_k=torch.full((rows,), how["top_k"]) if "top_k" in how else None,
        top_p=torch.full((rows,), how["top_p"]) if "top_p" in how else None,
        min_p=torch.full((rows,), how["min_p"]) if "min_p" in how else None,
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


def reference_distribution(logits, temperature=1.0, top_k=None, top_p=1.0, min_p=0.0):
    """What a row may be drawn from, written as plainly as possible."""
    probabilities = torch.softmax(logits.double() / temperature, -1)
    order = sorted(range(len(logits)), key=lambda i: -probabilities[i])
    kept = order[: top_k or len(order)]
    mass = sum(probabilities[i] for i in kept)
    nucleus, before = [], 0.0
    for i in kept:
        if top_p < 1 and before >= top_p and probabilities[i] < probabilities[nucleus[-1]]:
            break
        nucleus.append(i)
        before += probabilities[i] / mass
    least = min_p * probabilities[order[0]]
    out = torch.zeros_like(probabilities)
    for i in nucleus:
        if probabilities[i] >= least:
            out[i] = probabilities[i]
    return out / out.sum()


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
    expected = reference_distribution(logits, **how)
    assert counts[expected == 0].sum() == 0
    statistic, limit = chi_square(counts, expected)
    assert statistic < limit


def test_draws_of_different_seeds_and_counts_are_independent():
    """Pairs of draws that share a seed, or a count, fill the unit square evenly."""
    n = 100_000
    many, zero = torch.arange(n), torch.zeros(n, dtype=torch.int64)
    for first, second in [
        (uniform(zero, many), uniform(zero, many + 1)),
        (uniform(many, zero), uniform(many + 1, zero)),
        (uniform(many, zero), uniform(many, zero + 1)),
    ]:
        assert first.min() >= 0
        assert first.max() < 1
        cells = (first * 10).long() * 10 + (second * 10).long()
        counts = torch.bincount(cells, minlength=100).double()
        statistic, limit = chi_square(counts, torch.full((100,), 0.01, dtype=torch.float64))
        assert statistic < limit


def splitmix64(state):
    """The published generator's first output, in Python's own integers."""
    mask = (1 << 64) - 1
    z = (state + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def test_a_seed_means_the_same_for_ever():
    assert splitmix64(1234567) == 6457827717110365317  # as in the reference's test vectors
    seeds, draws = [0, 1, -(2**63), 2**63 - 1, -1], [0, 1, 2, 3, 10**6]
    expected = []
    for seed, count in zip(seeds, draws):
        state = splitmix64(seed % 2**64) + count * 0x9E3779B97F4A7C15
        expected.append((splitmix64(state) >> 40) / 2**24)
    assert uniform(torch.tensor(seeds), torch.tensor(draws)).tolist() == expected


def test_a_row_does_not_depend_on_its_company():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(16, 500, generator=generator) * 2
    everyone = SamplingTensors(
        random_rows=torch.arange(16),
        temperatures=torch.rand(16, generator=generator) + 0.5,
        top_k=torch.randint(1, 501, (16,), generator=generator),
        top_p=torch.rand(16, generator=generator).clamp(min=0.1),
        min_p=torch.rand(16, generator=generator) * 0.1,
        seeds=torch.randint(1 << 60, (16,), generator=generator),
        draws=torch.arange(16),
    )
    together = sample(logits.clone(), everyone)
    for row in range(16):
        one = slice(row, row + 1)
        alone = SamplingTensors(
            random_rows=torch.tensor([0]),
            temperatures=everyone.temperatures[one],
            top_k=everyone.top_k[one],
            top_p=everyone.top_p[one],
            min_p=everyone.min_p[one],
            seeds=everyone.seeds[one],
            draws=everyone.draws[one],
        )
        assert sample(logits[one].clone(), alone).item() == together[row].item()


def test_greedy_and_random_rows_in_one_batch():
    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    random_rows = torch.tensor([1, 4])
    how = SamplingTensors(
        random_rows=random_rows,
        temperatures=torch.tensor([0.8, 1.2]),
        seeds=torch.tensor([5, 6]),
        draws=torch.tensor([0, 0]),
    )
    tokens = sample(logits.clone(), how)
    greedy = logits.argmax(-1)
    assert tokens[[0, 2, 3, 5]].tolist() == greedy[[0, 2, 3, 5]].tolist()
    assert sample(logits.clone(), SamplingTensors()).tolist() == greedy.tolist()


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    vocab=st.integers(2, 40),
    scale=st.sampled_from([0.0, 0.3, 2.0, 30.0]),
    top_k=st.integers(1, 45),
    top_p=st.sampled_from([1e-6, 0.1, 0.5, 0.9, 0.999, 1.0]),
    min_p=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
)
def test_truncation_keeps_what_the_plain_reference_keeps(seed, vocab, scale, top_k, top_p, min_p):
    # Whole numbers make ties, which are kept or dropped together.
    logits = torch.randn(vocab, generator=torch.Generator().manual_seed(seed)) * scale
    logits = logits.round()
    scaled = (logits - logits.max())[None]
    threshold = keep_threshold(
        scaled,
        torch.tensor([min(top_k, vocab)]),
        torch.tensor([top_p]),
        torch.tensor([min_p]),
    )
    kept = (scaled >= threshold)[0]
    kth = logits.sort(descending=True).values[min(top_k, vocab) - 1]
    num_with_ties = int((logits >= kth).sum())
    expected = reference_distribution(logits, 1.0, num_with_ties, top_p, min_p) > 0
    assert kept.tolist() == expected.tolist()


@pytest.mark.parametrize("vocab", [255, 256, 257, 5000])
def test_a_nucleus_wider_than_the_first_look(vocab):
    """Nearly equal logits put most of the vocabulary into the nucleus."""
    generator = torch.Generator().manual_seed(1)
    scaled = -torch.rand(3, vocab, generator=generator) * 1e-2
    scaled[1] *= 5000  # one row has a small nucleus
    scaled -= scaled.amax(-1, keepdim=True)
    top_p = torch.tensor([0.9, 0.9, 0.3])
    kept = scaled >= keep_threshold(scaled, None, top_p, None)
    for row in range(3):
        expected = reference_distribution(scaled[row], top_p=top_p[row].item()) > 0
        # A token at the very edge may fall on either side in float32.
        assert (kept[row] != expected).sum() <= 1
        mass = scaled[row].double().softmax(-1)[kept[row]].sum()
        assert mass >= top_p[row] - 1e-5


def test_the_ends_of_the_unit_interval_draw_possible_tokens():
    ends = torch.tensor([0.0, 1.0 - 2.0**-24])
    cases = [(1, 3, 5), (0, 127, 128), (127, 128, 300), (5, 5, 9), (200, 383, 384)]
    for first, last, vocab in cases:
        scaled = torch.full((2, vocab), -float("inf"))
        scaled[:, [first, last]] = 0.0
        assert draw(scaled, ends).tolist() == [first, last]
    flat = draw(torch.zeros(2, 150_000), ends).tolist()
    assert flat[0] == 0
    assert flat[1] >= 150_000 - 20


@pytest.mark.parametrize("vocab", [1, 127, 128, 129, 1000])
def test_the_most_likely_token(vocab):
    logits = torch.randn(40, vocab, generator=torch.Generator().manual_seed(vocab))
    assert most_likely(logits).tolist() == logits.argmax(-1).tolist()
    forbidden = torch.full((1, vocab), -float("inf"))
    forbidden[0, vocab - 1] = -5.0
    assert most_likely(forbidden).tolist() == [vocab - 1]


def test_tiny_and_huge_temperatures():
    logits = torch.tensor([[3e4, 2.9e4, -3e4]])
    assert sample(logits.clone(), tensors(1, temperature=1e-5)).item() == 0
    many = logits.repeat(300, 1)
    assert set(sample(many, tensors(300, temperature=1e6)).tolist()) == {0, 1, 2}


def test_changes_divide_multiply_and_subtract():
    logits = torch.tensor([[2.0, -2.0, 1.0], [4.0, 0.0, -1.0]])
    changes = LogitChanges(
        rows=torch.tensor([0, 0, 1, 1]),
        tokens=torch.tensor([0, 1, 0, 2]),
        repetition=torch.tensor([2.0, 2.0, 1.0, 1.0]),
        subtract=torch.tensor([0.0, 0.5, float("inf"), -1.0]),
    )
    sample(logits, SamplingTensors(changes=changes))
    assert logits.tolist() == [[1.0, -4.5, 1.0], [-float("inf"), 0.0, 0.0]]


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
