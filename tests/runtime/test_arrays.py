"""NumPy arrays, and whatever has ``__array_interface__``."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from vllm import ops

VIEWS = {
    "whole": lambda a: a,
    "one row": lambda a: a[0, 0],
    "rows apart": lambda a: a[:, 1:2],
    "backwards": lambda a: a[::-1, 0],
    "part of each row": lambda a: a[..., 8:24],
    "no rows": lambda a: a[:0],
    "one row many times": lambda a: np.broadcast_to(a[0, 0], (5, 32)),
}


def ones(count: int, like: np.ndarray) -> np.ndarray:
    return np.ones(count, like.dtype)


def norm(input: np.ndarray) -> np.ndarray:
    out = np.full(input.shape, np.nan, input.dtype)
    ops.rms_norm(out, input, ones(input.shape[-1], input), 0.0)
    return out


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_views_are_read_where_they_are(dtype, view, normed):
    input = view(np.arange(1, 4 * 3 * 32 + 1).reshape(4, 3, 32).astype(dtype))
    tolerance = 8e-3 if dtype is ml_dtypes.bfloat16 else 1e-3 if dtype is np.float16 else 1e-6
    np.testing.assert_allclose(norm(input).astype(np.float64), normed(input), rtol=tolerance)


def test_a_negative_stride_is_written_through():
    out, input = np.zeros((3, 4), np.float32), np.diag([1, 2, 3, 4]).astype(np.float32)[:3]
    ops.rms_norm(out[::-1], input, np.ones(4, np.float32), 0.0)
    np.testing.assert_allclose(out[::-1], np.diag([2, 2, 2, 2])[:3])


def test_a_read_only_array_may_be_read_but_not_written(normed):
    input = np.ones((2, 8), np.float32)
    input.flags.writeable = False
    np.testing.assert_allclose(norm(input), normed(input))
    with pytest.raises(ValueError, match="'out' is read-only; it takes memory that it may write"):
        ops.rms_norm(input, np.ones((2, 8), np.float32), np.ones(8, np.float32), 0.0)


@pytest.mark.parametrize(
    ("input", "error", "words"),
    [
        (np.ones((2, 8)), TypeError, "has dtype float64; it takes float32, float16 or bfloat16"),
        (np.ones((2, 8), ">f4"), TypeError, "has big-endian elements"),
        (np.ones((2, 8), "V2"), TypeError, "has dtype |V2"),
        (np.ones((2, 8), "i4"), TypeError, "has dtype int32"),
        (np.ones((2, 8), "datetime64[s]"), TypeError, "has dtype datetime64"),
        (np.ones((2, 16), "f4")[:, ::2], ValueError, "has stride 2 in its last dimension"),
        (np.ones((2, 8), "c8").real, ValueError, "has stride 2 in its last dimension"),
        (np.zeros(65, "u1")[1:].view("f4").reshape(2, 8), ValueError, "is not aligned"),
        (
            np.ones((2, 3, 8), "f4")[:, :2],
            ValueError,
            "has strides (24, 8, 1) for shape (2, 2, 8); it takes leading dimensions that make",
        ),
        (
            np.ndarray((2, 8), "f4", np.zeros(70, "u1"), strides=(34, 4)),
            ValueError,
            "has a stride of 34 bytes; it takes multiples of its element size 4",
        ),
        ([1.0], TypeError, "is a list; it takes a torch.Tensor or, on the CPU, a NumPy array"),
        (None, TypeError, "is a NoneType"),
    ],
    ids=str,
)
def test_what_cannot_be_read_is_named(input, error, words):
    with pytest.raises(error) as raised:
        ops.rms_norm(np.ones((2, 8), "f4"), input, np.ones(8, "f4"), 0.0)
    assert str(raised.value).startswith("rms_norm: argument 'input' ")
    assert words in str(raised.value)


class Exporter:
    """Anything with an array interface is an array."""

    def __init__(self, array: np.ndarray, **changes: object) -> None:
        self._array = array
        self._changes = changes

    @property
    def __array_interface__(self):
        interface = {**self._array.__array_interface__, **self._changes}
        return {key: value for key, value in interface.items() if value is not ...}


def test_any_exporter_is_an_array(normed):
    values = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    out = np.empty_like(values)
    ops.rms_norm(Exporter(out), Exporter(values, strides=None), np.ones(8, np.float32), 0.0)
    np.testing.assert_allclose(out, normed(values), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": ...}, "an __array_interface__ without 'shape'"),
        ({"data": b"12345678"}, "whose data is no address"),
        ({"strides": (4,)}, "a different number of strides and dimensions"),
        ({"shape": (1,) * 9}, "has 9 dimensions"),
        ({"shape": ("8",)}, "cannot be read"),
    ],
)
def test_a_broken_exporter_is_an_error(changes, words):
    array = np.ones((2, 8), np.float32)
    with pytest.raises((TypeError, ValueError), match=words):
        ops.rms_norm(np.empty_like(array), Exporter(array, **changes), np.ones(8, "f4"), 0.0)
