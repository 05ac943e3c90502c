"""Tensors of every kind that an op takes, laid out so that a test sees what is read and written.

Around and between the rows of every tensor lies padding. What an op reads from there would show,
for inputs are padded with NaN; and so would what it writes there.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Optional, Tuple

import numpy as np

try:
    from ml_dtypes import bfloat16
except ImportError:  # NumPy alone has no such dtype
    bfloat16 = None

try:
    import torch
except ImportError:
    torch = None

# An op computes in float32 and rounds once. The one rounding is off by at most half a unit in the
# last place, which is 2^-p of the value for p bits of significand; the rest is the arithmetic's:
# some roundings in float32, more where values of unlike sign are added.
ROUNDING = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
ARITHMETIC = 4e-6

# Half the distance between neighbours near zero, where rounding is no longer relative.
SUBNORMAL = {"float32": 2.0**-150, "float16": 2.0**-25, "bfloat16": 2.0**-134}


def assert_close(
    found: np.ndarray, expected: np.ndarray, dtype: str, absolute: float = 0.0, what: str = ""
) -> None:
    """Within one rounding to `dtype` of the reference, which is in float64."""
    np.testing.assert_allclose(
        found.astype(np.float64),
        expected,
        rtol=ROUNDING[dtype] + ARITHMETIC,
        atol=SUBNORMAL[dtype] + absolute,
        err_msg=what,
    )


class Placed:
    """A tensor in a buffer with padding, and a way to read it and to see the padding untouched."""

    def __init__(self, kind: Kind, values: np.ndarray, room: Tuple, offset: int) -> None:
        """`values` from element `offset` of a buffer on, with the strides that an array of shape
        `room` has; NaN, or 99, elsewhere."""
        fill = 99 if values.dtype.kind in "iu" else np.nan
        self._before = np.full(np.prod(room, dtype=int) + 16, fill, values.dtype)
        self._shape, self._offset = values.shape, offset
        self._strides = tuple(np.prod(room[axis + 1 :], dtype=int) for axis in range(len(room)))
        if values.size:
            self._view(self._before)[...] = values
        self._kind = kind
        self._buffer = kind.from_numpy(self._before.copy())
        self.tensor = kind.view(self._buffer, self._shape, self._strides, offset)

    def _view(self, buffer: np.ndarray) -> np.ndarray:
        return np.lib.stride_tricks.as_strided(
            buffer[self._offset :], self._shape, [s * buffer.itemsize for s in self._strides]
        )

    def read(self) -> np.ndarray:
        """The tensor's elements now; fails where an element around them has changed."""
        now = self._kind.to_numpy(self._buffer)
        values = self._view(now).copy()
        if values.size:
            self._view(now)[...] = self._view(self._before)
        np.testing.assert_array_equal(bits(now), bits(self._before), "wrote beside the tensor")
        return values


class Kind(NamedTuple):
    """Where tensors live, whose they are, and their floating-point dtype."""

    library: str  # "numpy" or "torch"
    device: str  # "cpu" or "cuda"
    dtype: str

    @property
    def numpy_dtype(self) -> Any:
        return bfloat16 if self.dtype == "bfloat16" else np.dtype(self.dtype)

    def array(self, values: Any) -> np.ndarray:
        """A NumPy array of the dtype."""
        return np.asarray(values, np.float64).astype(self.numpy_dtype)

    def draw(self, *shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
        """Normally distributed numbers that the dtype holds exactly."""
        return self.array(np.random.default_rng(seed).standard_normal(shape) * scale)

    def place(self, values: np.ndarray, strided: bool = False) -> Placed:
        """`values` as a tensor: contiguous on a 16-byte boundary, or with padding between rows
        and an odd start."""
        if strided:
            return Placed(self, values, (*values.shape[:-1], values.shape[-1] + 8), 3)
        return Placed(self, values, values.shape, 8)

    def empty(self, *shape: int, strided: bool = False) -> Placed:
        """A tensor to be written, full of NaN: an element that is not written would show."""
        return self.place(np.full(shape, np.nan, self.numpy_dtype), strided)

    def tensor(self, values: np.ndarray) -> Any:
        """`values` as a tensor without ado, for what is only read."""
        return self.place(values).tensor

    def from_numpy(self, buffer: np.ndarray) -> Any:
        if self.library == "numpy":
            return buffer
        if bfloat16 is not None and buffer.dtype == bfloat16:
            return torch.from_numpy(buffer.view(np.int16)).view(torch.bfloat16).to(self.device)
        return torch.from_numpy(buffer).to(self.device)

    def view(self, buffer: Any, shape: Tuple, strides: Tuple, offset: int) -> Any:
        if self.library == "torch":
            return torch.as_strided(buffer, shape, strides, offset)
        return np.lib.stride_tricks.as_strided(
            buffer[offset:], shape, [s * buffer.itemsize for s in strides]
        )

    def to_numpy(self, buffer: Any) -> np.ndarray:
        if self.library == "numpy":
            return buffer.copy()
        if buffer.dtype == torch.bfloat16:
            return buffer.view(torch.int16).cpu().numpy().view(bfloat16).copy()
        return buffer.cpu().numpy().copy()


def bits(array: np.ndarray) -> np.ndarray:
    """The elements as unsigned integers, to compare NaN with NaN."""
    return array.view(f"u{array.itemsize}")


def why_not(library: str, device: str, dtype: str) -> Optional[str]:
    """Why such tensors cannot be had here."""
    if dtype == "bfloat16" and bfloat16 is None:
        return "ml_dtypes, which gives NumPy its bfloat16, is not installed"
    if library == "torch" and torch is None:
        return "torch is not installed"
    if device == "cuda" and torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    if device == "cuda" and not torch.cuda.is_available():
        return "torch sees no GPU"
    return None
