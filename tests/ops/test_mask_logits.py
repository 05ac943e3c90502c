"""Which tokens may be drawn."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.reference.penalties import mask_logits
from vllm import ops


def packed(allowed):
    """bool [masks, vocab] as bits, the lowest first; of what is no token, all set or none."""
    masks, vocab = allowed.shape
    room = np.zeros((masks, -(-vocab // 32) * 32), bool)
    room[::2] = True
    room[:, :vocab] = allowed
    return np.packbits(room, axis=1, bitorder="little").view(np.int32)


def draw_masks(vocab, seed):
    """Of every kind: few tokens, most, whole words of 32 all or none, all, none."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 2, (1, -(-vocab // 32))).astype(bool).repeat(32, axis=1)[:, :vocab]
    some = [rng.random((1, vocab)) < share for share in (0.01, 0.5, 0.99, 1.1, 0.0)]
    return np.concatenate([*some, words])


@pytest.mark.parametrize("vocab", [1, 7, 31, 32, 33, 257, 5000])
def test_tokens_without_a_bit_are_forbidden(kind, vocab, strided):
    allowed = draw_masks(vocab, seed=vocab)
    rows = np.array([3, 0, 6, 1, 2, -1])  # rows 4 and 5 have no mask
    x = kind.draw(7, vocab, seed=1, scale=4.0)
    logits = kind.place(x, strided)
    bits = kind.place(packed(allowed))
    ops.mask_logits(logits.tensor, kind.tensor(rows), bits.tensor)
    np.testing.assert_array_equal(logits.read(), mask_logits(x, rows, allowed))


def test_two_masks_for_a_row_both_hold(kind):
    allowed = np.array([[True, True, False], [False, True, True]])
    logits = kind.place(kind.draw(1, 3, seed=1))
    ops.mask_logits(logits.tensor, kind.tensor(np.array([0, 0])), kind.tensor(packed(allowed)))
    assert (logits.read()[0].astype(float) == -np.inf).tolist() == [True, False, True]


def test_no_masks_change_nothing(kind):
    x = kind.draw(2, 40, seed=1)
    logits = kind.place(x)
    empty = np.zeros((0, 2), np.int32)
    ops.mask_logits(logits.tensor, kind.tensor(np.zeros(0, np.int64)), kind.tensor(empty))
    np.testing.assert_array_equal(logits.read(), x)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("rows", [0, 2], IndexError, "argument 'rows' holds 2 at index 1; it takes -1 to 1, the"),
        ("rows", [0], ValueError, "'rows' has shape (1,); it takes (2,), a row for each of 'bits'"),
        ("bits", np.zeros((2, 2), np.int64), TypeError, "'bits' has dtype int64; it takes int32"),
        ("bits", np.zeros((2, 1), np.int32), ValueError, "'bits' has shape (2, 1); it takes (mask"),
        ("logits", np.ones((2, 40)), TypeError, "'logits' has dtype float64; it takes float32"),
        ("logits", np.ones(40, np.float32), ValueError, "'logits' has shape (40,); it takes (row"),
    ],
)
def test_errors(name, value, error, message):
    given = {
        "logits": np.ones((2, 40), np.float32),
        "rows": np.array([0, 1]),
        "bits": np.zeros((2, 2), np.int32),
        name: np.asarray(value),
    }
    with pytest.raises(error, match=re.escape(message)):
        ops.mask_logits(*given.values())
    assert (given["logits"] == 1).all()
