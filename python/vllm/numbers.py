"""Numbers as people have them: Python's own, NumPy's, a tensor's single element."""

from __future__ import annotations

import operator
from typing import Any, Optional, Union


def as_integer(value: Any) -> Optional[int]:
    """The value as an int, None if it is no integer; True, 1.0 and "1" are none."""
    if type(value) is int:
        return value
    if _is_something_else(value):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def as_real(value: Any) -> Union[int, float, None]:
    """The value as an int or a float, None if it is no real number; True and "1" are none."""
    if type(value) in (int, float):
        return value  # type: ignore[no-any-return]
    if _is_something_else(value) or not hasattr(value, "__float__"):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _is_something_else(value: Any) -> bool:
    """What converts to a number though it is none: truth values, complex numbers, several."""
    dtype = str(getattr(value, "dtype", "")).replace("torch.", "")
    return (
        isinstance(value, (bool, str))
        or dtype.startswith(("bool", "complex"))
        or bool(getattr(value, "ndim", 0))
    )
