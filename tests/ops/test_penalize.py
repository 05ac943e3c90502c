"""Counting the tokens of sequences, and what penalties make of the counts."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.ops.support import assert_close
from tests.reference.penalties import penalize
from vllm import ops

ROOM = 5  # counters


def counters(kind, vocab):
    """Of which nothing has been said: what is in there must not matter."""
    rng = np.random.default_rng(1)
    shapes = ((ROOM, -(-vocab // 32)), (ROOM, vocab))
    return [kind.place(rng.integers(-(2**31), 2**31, s).astype(np.int32)) for s in shapes]


def begin(kind, state, lists):
    """lists: {counter: {token: uses}}"""
    starts = np.cumsum([0, *map(len, lists.values())])
    pairs = [pair for each in lists.values() for pair in each.items()]
    tokens, counts = np.array(pairs, np.int64).reshape(-1, 2).T.copy()
    arrays = (np.array(list(lists), np.int64), starts.astype(np.int64), tokens, counts)
    ops.count_tokens(*(each.tensor for each in state), *map(kind.tensor, arrays))


def draw_lists(vocab, names, seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: {
            int(token): int(rng.integers(0, 4))
            for token in rng.choice(vocab, rng.integers(0, vocab + 1), replace=False)
        }
        for name in names
    }


@pytest.mark.parametrize("vocab", [1, 31, 32, 257, 5000])
def test_tokens_are_counted_and_penalised_step_by_step(float32_kind, vocab, strided):
    """Rows of three sequences, and one without a counter, in changing order."""
    state, lists = counters(float32_kind, vocab), draw_lists(vocab, (3, 0, 4))
    begin(float32_kind, state, lists)
    rng = np.random.default_rng(2)
    for step in range(4):
        if step == 2:  # another sequence gets a counter, while the others go on
            lists.update(draw_lists(vocab, (0,), seed=9))
            begin(float32_kind, state, {0: lists[0]})
        names = rng.permutation([3, 0, 4, -1])
        inputs, counts = rng.integers(0, vocab, 4), rng.integers(0, 2, 4)
        repetition = rng.uniform(0.5, 2, 4).astype(np.float32)
        presence, frequency = rng.normal(size=(2, 4)).astype(np.float32)
        for name, token, count in zip(names, inputs.tolist(), counts.tolist()):
            if name >= 0:
                lists[name][token] = lists[name].get(token, 0) + count
        x = float32_kind.draw(4, vocab, seed=step, scale=4.0)
        logits = float32_kind.place(x, strided)
        arrays = (inputs, names, counts, repetition, presence, frequency)
        ops.penalize(
            logits.tensor, *map(float32_kind.tensor, arrays), *(each.tensor for each in state)
        )
        uses = [lists.get(name, {}) for name in names]
        expected = penalize(x, uses, repetition, presence, frequency)
        assert_close(logits.read(), expected, "float32", absolute=1e-5)
    untouched = counters(float32_kind, vocab)
    for found, before in zip(state, untouched):
        for name in (1, 2):
            np.testing.assert_array_equal(found.read()[name], before.read()[name])


def penalize_arguments():
    return {
        "logits": np.ones((2, 40), np.float32),
        "inputs": np.array([3, 4]),
        "counters": np.array([1, 0]),
        "counts": np.array([1, 0]),
        "repetition": np.full(2, 2, np.float32),
        "presence": np.zeros(2, np.float32),
        "frequency": np.zeros(2, np.float32),
        "seen": np.zeros((2, 2), np.int32),
        "uses": np.zeros((2, 40), np.int32),
    }


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("inputs", [0, 40], IndexError, "argument 'inputs' holds 40 at index 1; it takes 0 to 39"),
        ("counters", [2, 0], IndexError, "argument 'counters' holds 2 at index 0; it takes -1 to"),
        ("counts", [1], ValueError, "'counts' has shape (1,); it takes (2,)"),
        ("presence", np.ones(2), TypeError, "'presence' has dtype float64; it takes float32"),
        ("logits", np.ones((2, 40), np.float16), TypeError, "'logits' has dtype float16; it takes"),
        ("seen", np.zeros((2, 1), np.int32), ValueError, "'seen' has shape (2, 1); it takes (2, 2"),
        ("uses", np.zeros((2, 39), np.int32), ValueError, "'uses' has shape (2, 39); it takes row"),
        ("uses", np.zeros((2, 80), np.int32)[:, ::2], ValueError, "'uses' has stride 2"),
        ("uses", np.zeros((2, 41), np.int32)[:, :40], ValueError, "'uses' has gaps between its"),
    ],
)
def test_errors(name, value, error, message):
    given = {**penalize_arguments(), name: np.asarray(value)}
    with pytest.raises(error, match=re.escape(message)):
        ops.penalize(*given.values())
    assert (given["logits"] == 1).all()
    assert not given["uses"].any()


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("counters", [2], IndexError, "'counters' holds 2 at index 0; it takes -1 to 1"),
        ("tokens", [0, 40], IndexError, "'tokens' holds 40 at index 1; it takes 0 to 39"),
        ("starts", [0, 3], IndexError, "'starts' holds 3 at index 1; it takes 0 to 2"),
        ("starts", [1, 2], IndexError, "'starts' holds 1 at index 0; it takes 0 to 0"),
        ("starts", [0], ValueError, "'starts' has shape (1,); it takes (2,), one more than lists"),
        ("counts", [0], ValueError, "'counts' has shape (1,); it takes (2,)"),
    ],
)
def test_errors_of_counting(name, value, error, message):
    given = {
        "seen": np.zeros((2, 2), np.int32),
        "uses": np.zeros((2, 40), np.int32),
        "counters": np.array([0]),
        "starts": np.array([0, 2]),
        "tokens": np.array([3, 4]),
        "counts": np.array([1, 0]),
        name: np.asarray(value),
    }
    with pytest.raises(error, match=re.escape(message)):
        ops.count_tokens(*given.values())
    assert not given["seen"].any()


@pytest.mark.gpu
def test_on_cuda_what_is_out_of_range_is_left_out():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    given = {name: torch.from_numpy(each).cuda() for name, each in penalize_arguments().items()}
    given["inputs"] = torch.tensor([-1, 40], device="cuda")
    lists = ([0, 7, 1], [0, 2, 3, 5], [3, 40, 5, -1, 6], [1, 1, 1, 1, 0])
    state = (given["seen"], given["uses"])
    ops.count_tokens(*state, *(torch.tensor(each, device="cuda") for each in lists))
    ops.penalize(*given.values())
    expected = torch.ones(2, 40)
    expected[0, 6] = expected[1, 3] = 0.5
    assert torch.equal(given["logits"].cpu(), expected)
