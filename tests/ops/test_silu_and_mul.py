from __future__ import annotations

import re

import numpy as np
import pytest

from tests.ops.support import assert_close
from tests.reference.silu_and_mul import silu_and_mul
from vllm import ops

WIDTHS = [1, 7, 8, 9, 63, 64, 65, 127, 1000, 4096, 5123]
ROWS = [0, 1, 2, 3, 17]


@pytest.mark.parametrize("width", WIDTHS)
def test_silu_and_mul(kind, width, strided):
    for rows in ROWS:
        x = kind.draw(rows, 2 * width, scale=8.0)
        out = kind.empty(rows, width, strided=strided)
        ops.silu_and_mul(out.tensor, kind.place(x, strided).tensor)
        assert_close(out.read(), silu_and_mul(x), kind.dtype, what=f"{rows} rows")


def test_many_rows_on_many_threads(kind):
    x = kind.draw(3001, 2 * 127)
    out = kind.empty(3001, 127)
    ops.silu_and_mul(out.tensor, kind.tensor(x))
    assert_close(out.read(), silu_and_mul(x), kind.dtype)


@pytest.mark.parametrize("shape", [(64,), (1, 64), (2, 3, 64), (0, 3, 64), (3, 0)])
def test_leading_dimensions_are_rows(kind, shape):
    x = kind.draw(*shape)
    out = kind.empty(*shape[:-1], shape[-1] // 2)
    ops.silu_and_mul(out.tensor, kind.tensor(x))
    assert_close(out.read(), silu_and_mul(x), kind.dtype)


def test_the_whole_range_of_the_gate(kind):
    """From where exp(-x) overflows to where it vanishes, in steps that reach every binade."""
    gate = np.concatenate([np.linspace(-120, 120, 4001), 2.0 ** np.arange(-24, 7)])
    x = kind.array(np.concatenate([gate, np.ones_like(gate)]))
    out = kind.empty(gate.size)
    ops.silu_and_mul(out.tensor, kind.tensor(x))
    # Below -88.7, exp(-x) is infinite in float32 and the result 0: off by less than 1e-36.
    assert_close(out.read(), silu_and_mul(x), kind.dtype, absolute=1e-36)


def test_special_values(kind):
    inf, nan = np.inf, np.nan
    gate = [0.0, -0.0, inf, inf, nan, 1.0, 1.0, 0.0, -inf]
    up = [5.0, 5.0, 1.0, 0.0, 1.0, inf, nan, inf, 1.0]
    expected = [0.0, -0.0, inf, nan, nan, inf, nan, nan, nan]  # -inf / inf is NaN, as in torch
    out = kind.empty(len(gate))
    ops.silu_and_mul(out.tensor, kind.tensor(kind.array(gate + up)))
    found = out.read().astype(np.float64)
    np.testing.assert_array_equal(found, expected)
    assert np.signbit(found[1])


def array(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


@pytest.mark.parametrize(
    ("out", "input", "error", "message"),
    [
        (
            array(2, 4, dtype=np.int64),
            array(2, 8, dtype=np.int64),
            TypeError,
            "silu_and_mul: argument 'input' has dtype int64; it takes float32, float16 or bfloat16",
        ),
        (
            array(2, 4, dtype=np.float16),
            array(2, 8),
            TypeError,
            "silu_and_mul: argument 'out' has dtype float16; "
            "it takes float32, the dtype of 'input'",
        ),
        (
            array(2, 8),
            array(2, 8),
            ValueError,
            "silu_and_mul: argument 'out' has shape (2, 8); "
            "it takes (2, 4), half of the last dimension of 'input'",
        ),
        (array(2, 3), array(2, 7), ValueError, "silu_and_mul: argument 'input' has shape (2, 7)"),
        (array(3, 4), array(2, 8), ValueError, "silu_and_mul: argument 'out' has shape (3, 4)"),
        (
            array(2, 4),
            array(8, 2).T,
            ValueError,
            "silu_and_mul: argument 'input' has stride 2 in its last dimension; it takes 1 there",
        ),
    ],
)
def test_errors(out, input, error, message):
    with pytest.raises(error, match=re.escape(message)):
        ops.silu_and_mul(out, input)


def test_out_may_not_be_a_part_of_the_input(plain):
    both = np.ones((2, 8), plain.numpy_dtype)
    with pytest.raises(ValueError, match="'out' shares memory with 'input'"):
        ops.silu_and_mul(both[:, :4], both)
