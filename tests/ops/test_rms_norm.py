from __future__ import annotations

import re

import numpy as np
import pytest

from tests.ops.support import assert_close, bits
from tests.reference.rms_norm import fused_add_rms_norm, rms_norm
from vllm import ops

WIDTHS = [1, 7, 8, 9, 63, 64, 65, 127, 1000, 4096, 5123]
ROWS = [0, 1, 2, 3, 17]
EPSILON = 1e-6


@pytest.mark.parametrize("width", WIDTHS)
def test_rms_norm(kind, width, strided):
    weight = kind.draw(width, seed=1)
    for rows in ROWS:
        x = kind.draw(rows, width)
        out, input = kind.empty(rows, width, strided=strided), kind.place(x, strided)
        ops.rms_norm(out.tensor, input.tensor, kind.tensor(weight), EPSILON)
        assert_close(out.read(), rms_norm(x, weight, EPSILON), kind.dtype, what=f"{rows} rows")
        np.testing.assert_array_equal(bits(input.read()), bits(x))


@pytest.mark.parametrize("width", WIDTHS)
def test_fused_add_rms_norm(kind, width, strided):
    weight = kind.draw(width, seed=1)
    for rows in ROWS:
        x, y = kind.draw(rows, width), kind.draw(rows, width, seed=2)
        input, residual = kind.place(x, strided), kind.place(y, strided)
        ops.fused_add_rms_norm(input.tensor, residual.tensor, kind.tensor(weight), EPSILON)
        normed, total = fused_add_rms_norm(x, y, weight, EPSILON)
        np.testing.assert_array_equal(bits(residual.read()), bits(total))
        assert_close(input.read(), normed, kind.dtype, what=f"{rows} rows")


@pytest.mark.parametrize(("rows", "width"), [(3001, 127), (1027, 256), (600, 2104)])
def test_many_rows(kind, rows, width):
    """On several threads of the CPU; on CUDA as many as there is a launch of its own for."""
    x, y, weight = kind.draw(rows, width), kind.draw(rows, width, seed=2), kind.draw(width, seed=1)
    out, input, residual = kind.empty(rows, width), kind.place(x), kind.place(y)
    ops.rms_norm(out.tensor, input.tensor, kind.tensor(weight), EPSILON)
    assert_close(out.read(), rms_norm(x, weight, EPSILON), kind.dtype)
    ops.fused_add_rms_norm(input.tensor, residual.tensor, kind.tensor(weight), EPSILON)
    normed, total = fused_add_rms_norm(x, y, weight, EPSILON)
    np.testing.assert_array_equal(bits(residual.read()), bits(total))
    assert_close(input.read(), normed, kind.dtype)


@pytest.mark.parametrize("shape", [(64,), (1, 64), (2, 3, 64), (2, 1, 3, 64), (0, 3, 64), (3, 0)])
def test_leading_dimensions_are_rows(kind, shape, strided):
    x, weight = kind.draw(*shape), kind.draw(shape[-1], seed=1)
    out = kind.empty(*shape, strided=strided)
    ops.rms_norm(out.tensor, kind.place(x, strided).tensor, kind.tensor(weight), EPSILON)
    expected = rms_norm(x, weight, EPSILON) if x.size else np.zeros(shape)
    assert_close(out.read(), expected, kind.dtype)


def test_strides_of_input_and_output_are_their_own(kind):
    x, weight = kind.draw(5, 65), kind.draw(65, seed=1)
    out = kind.empty(5, 65)
    ops.rms_norm(out.tensor, kind.place(x, True).tensor, kind.tensor(weight), EPSILON)
    assert_close(out.read(), rms_norm(x, weight, EPSILON), kind.dtype)


def test_out_may_be_the_input(kind, strided):
    x, weight = kind.draw(3, 100), kind.draw(100, seed=1)
    both = kind.place(x, strided)
    ops.rms_norm(both.tensor, both.tensor, kind.tensor(weight), EPSILON)
    assert_close(both.read(), rms_norm(x, weight, EPSILON), kind.dtype)


def test_special_values_stay_in_their_row(kind):
    x = kind.draw(6, 130)
    x[0, 3] = np.inf
    x[1, 129] = np.nan
    x[2] = 0
    x[3] = kind.array(1e-7)  # subnormal in float16; mean(x^2) is far below epsilon
    out = kind.empty(*x.shape)
    ops.rms_norm(out.tensor, kind.tensor(x), kind.tensor(kind.array(np.ones(130))), EPSILON)
    found = out.read().astype(np.float64)
    assert np.isnan(found[0, 3])  # infinity / infinity
    assert (np.delete(found[0], 3) == 0).all()
    assert np.isnan(found[1]).all()
    assert (found[2] == 0).all()
    assert_close(out.read()[3:], rms_norm(x[3:], kind.array(np.ones(130)), EPSILON), kind.dtype)


def test_epsilon_is_added_to_the_mean(kind):
    x, weight = kind.array(np.full((1, 8), 3.0)), kind.array(np.ones(8))
    out = kind.empty(1, 8)
    ops.rms_norm(out.tensor, kind.tensor(x), kind.tensor(weight), 16.0)
    assert_close(out.read(), np.full((1, 8), 3.0 / 5.0), kind.dtype)


def array(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            (array(2, 8, dtype=np.float64), array(2, 8, dtype=np.float64), array(8), 1e-6),
            TypeError,
            "rms_norm: argument 'input' has dtype float64; it takes float32, float16 or bfloat16",
        ),
        (
            (array(2, 8, dtype=np.float16), array(2, 8), array(8), 1e-6),
            TypeError,
            "rms_norm: argument 'out' has dtype float16; it takes float32, the dtype of 'input'",
        ),
        (
            (array(2, 8), array(2, 8), array(8, dtype=np.float16), 1e-6),
            TypeError,
            "rms_norm: argument 'weight' has dtype float16; it takes float32, the dtype of 'input'",
        ),
        (
            (array(2, 9), array(2, 8), array(8), 1e-6),
            ValueError,
            "rms_norm: argument 'out' has shape (2, 9); it takes (2, 8), the shape of 'input'",
        ),
        (
            (array(2, 8), array(2, 8), array(9), 1e-6),
            ValueError,
            "rms_norm: argument 'weight' has shape (9,); "
            "it takes (8,), the last dimension of 'input'",
        ),
        (
            (array(2, 8), array(8, 2).T, array(8), 1e-6),
            ValueError,
            "rms_norm: argument 'input' has stride 2 in its last dimension; it takes 1 there",
        ),
        (
            (array(2, 2, 8), array(2, 3, 8)[:, :2], array(8), 1e-6),
            ValueError,
            "rms_norm: argument 'input' has strides (24, 8, 1) for shape (2, 2, 8); "
            "it takes leading dimensions that make rows with one stride between them",
        ),
        ((array(2, 8), array(2, 8), array(8), -1.0), ValueError, "argument 'epsilon' is -1"),
        ((array(2, 8), array(2, 8), array(8), np.inf), ValueError, "argument 'epsilon' is inf"),
        ((array(2, 8), array(2, 8), array(8), np.nan), ValueError, "argument 'epsilon' is nan"),
        ((array(2, 8), array(2, 8), array(8), "x"), TypeError, "argument 'epsilon' takes a number"),
        ((array(2, 8), [[1.0]], array(8), 1e-6), TypeError, "rms_norm: argument 'input'"),
    ],
)
def test_errors(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        ops.rms_norm(*arguments)


def test_memory_may_not_be_shared_otherwise(plain):
    buffer = np.ones((4, 8), plain.numpy_dtype)
    weight = plain.array(np.ones(8))
    with pytest.raises(ValueError, match="'out' shares memory with 'input'"):
        ops.rms_norm(buffer[:3], buffer[1:], weight, EPSILON)
    with pytest.raises(ValueError, match="'out' shares memory with 'weight'"):
        ops.rms_norm(buffer[:1], weight[None] * 2, buffer[0], EPSILON)
    with pytest.raises(ValueError, match="'input' shares memory with 'residual'"):
        ops.fused_add_rms_norm(buffer, buffer, weight, EPSILON)
