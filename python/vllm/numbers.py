"""Converts numbers of Python and NumPy and zero-dimensional tensors to int and float."""

from __future__ import annotations

import operator
from typing import Any, Optional, Union


def as_integer(value: Any) -> Optional[int]:
    """The value as an int, None if it is not an integer; True, 1.0 and "1" are not."""
    if type(value) is int:
        return value
    if _is_something_else(value):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def as_real(value: Any) -> Union[int, float, None]:
    """The value as an int or a float, None if it is not a real number; True and "1" are not."""
    if type(value) in (int, float):
        return value  # type: ignore[no-any-return]
    if _is_something_else(value) or not hasattr(value, "__float__"):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _is_something_else(value: Any) -> bool:
    """Whether it is a boolean, a string, complex or an array: some of these would convert."""
    dtype = str(getattr(value, "dtype", "")).replace("torch.", "")
    return (
        isinstance(value, (bool, str))
        or dtype.startswith(("bool", "complex"))
        or bool(getattr(value, "ndim", 0))
    )
