"""Sizes that the ops support, to validate a config before any tensor exists.

A test compares each with the checks of the ops.
"""

from __future__ import annotations

# Elements of a head: csrc/ops/attention/paged_attention.cpp.
HEAD_SIZES = range(8, 257, 8)

# Maximum elements of a row, tokens of a sequence and of a window: csrc/ops/common/checks.h.
MAX_WIDTH = 2**31 - 1
