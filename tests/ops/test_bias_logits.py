from __future__ import annotations

import re

import numpy as np
import pytest

from tests.ops.support import assert_close
from tests.reference.penalties import bias_logits
from vllm import ops


def changes(rows, vocab, count, seed=0):
    """Some for no row, many of the same logits, and many only behind a token."""
    rng = np.random.default_rng(seed)
    inputs, after = rng.integers(0, vocab, rows), rng.integers(-1, vocab, count)
    places = rng.integers(-1, rows, count), rng.integers(0, vocab, count)
    after[::2] = inputs[places[0][::2]]
    amounts = rng.normal(size=count).astype(np.float32)
    amounts[::5] = -np.inf
    return (*places, amounts, after, inputs)


@pytest.mark.parametrize(("rows", "vocab", "count"), [(1, 1, 0), (3, 257, 400), (40, 1000, 30_000)])
def test_bias_logits(float32_kind, rows, vocab, count, strided):
    x = float32_kind.draw(rows, vocab, scale=4.0)
    logits = float32_kind.place(x, strided)
    made = changes(rows, vocab, count)
    ops.bias_logits(logits.tensor, *map(float32_kind.tensor, made))
    assert_close(logits.read(), bias_logits(x, *made), "float32", absolute=1e-5)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("rows", [0, 2], IndexError, "argument 'rows' holds 2 at index 1; it takes -1 to 1"),
        ("tokens", [-1, 0], IndexError, "argument 'tokens' holds -1 at index 0; it takes 0 to 7"),
        ("tokens", [0], ValueError, "'tokens' has shape (1,); it takes (2,)"),
        ("amounts", np.ones(2), TypeError, "'amounts' has dtype float64; it takes float32"),
        ("inputs", [0], ValueError, "'inputs' has shape (1,); it takes (2,)"),
    ],
)
def test_errors(name, value, error, message):
    given = {
        "rows": np.array([0, 1]),
        "tokens": np.array([3, 4]),
        "amounts": np.ones(2, np.float32),
        "after": np.array([-1, 4]),
        "inputs": np.array([3, 4]),
        name: np.asarray(value),
    }
    logits = np.ones((2, 8), np.float32)
    with pytest.raises(error, match=re.escape(message)):
        ops.bias_logits(logits, *given.values())
    assert (logits == 1).all()


@pytest.mark.gpu
def test_on_cuda_a_change_out_of_range_is_left_out():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    logits = torch.ones(2, 8, device="cuda")
    rows, tokens = [-1, 0, 2, 1, 1], [0, 8, 0, -1, 3]
    arrays = (rows, tokens, [0.5] * 5, [-1] * 5, [0, 0])
    ops.bias_logits(logits, *(torch.tensor(each, device="cuda") for each in arrays))
    expected = torch.ones(2, 8)
    expected[1, 3] = 1.5
    assert torch.equal(logits.cpu(), expected)
