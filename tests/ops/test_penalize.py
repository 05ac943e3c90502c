from __future__ import annotations

import re

import numpy as np
import pytest

from tests.ops.support import assert_close
from tests.reference.sample import penalize
from vllm import ops


def changes(rows, vocab, count, seed=0):
    """Distinct places, and what changes there; every fifth token is forbidden."""
    rng = np.random.default_rng(seed)
    places = rng.choice(rows * vocab, count, replace=False)
    subtract = rng.normal(size=count).astype(np.float32)
    subtract[::5] = np.inf
    factors = rng.uniform(0.5, 2.0, count).astype(np.float32)
    return places // vocab, places % vocab, factors, subtract


@pytest.mark.parametrize(("rows", "vocab", "count"), [(1, 1, 1), (3, 257, 100), (40, 1000, 30_000)])
def test_penalize(kind, rows, vocab, count, strided):
    x = kind.draw(rows, vocab, scale=4.0)
    logits = kind.place(x, strided)
    made = changes(rows, vocab, count)
    ops.penalize(logits.tensor, *map(kind.tensor, made))
    assert_close(logits.read(), penalize(x, *made), kind.dtype, absolute=1e-6)


def test_no_changes(kind):
    x = kind.draw(2, 5)
    logits = kind.place(x)
    ops.penalize(logits.tensor, *(kind.tensor(each[:0]) for each in changes(2, 5, 1)))
    np.testing.assert_array_equal(logits.read(), x)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("rows", [0, 2], IndexError, "argument 'rows' holds 2 at index 1; it takes 0 to 1"),
        ("tokens", [-1, 0], IndexError, "argument 'tokens' holds -1 at index 0; it takes 0 to 7"),
        ("tokens", [0], ValueError, "'tokens' has shape (1,); it takes (2,)"),
        ("subtract", np.ones(2), TypeError, "'subtract' has dtype float64; it takes float32"),
    ],
)
def test_errors(name, value, error, message):
    given = {
        "rows": np.array([0, 1]),
        "tokens": np.array([3, 4]),
        "repetition": np.full(2, 2, np.float32),
        "subtract": np.ones(2, np.float32),
        name: np.asarray(value),
    }
    logits = np.ones((2, 8), np.float32)
    with pytest.raises(error, match=re.escape(message)):
        ops.penalize(logits, *given.values())
    assert (logits == 1).all()


@pytest.mark.gpu
def test_on_cuda_a_change_out_of_range_is_left_out():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    logits = torch.ones(2, 8, device="cuda")
    rows = torch.tensor([-1, 0, 2, 1, 1], device="cuda")
    tokens = torch.tensor([0, 8, 0, -1, 3], device="cuda")
    ops.penalize(logits, rows, tokens, torch.full((5,), 2.0).cuda(), torch.zeros(5).cuda())
    expected = torch.ones(2, 8)
    expected[1, 3] = 0.5
    assert torch.equal(logits.cpu(), expected)
