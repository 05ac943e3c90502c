"""What the ops take, for those who have to know before there is a tensor.

A test compares this with the ops themselves, size by size.
"""

from __future__ import annotations

# Elements of a head: csrc/ops/attention/paged_attention.cpp.
HEAD_SIZES = range(8, 257, 8)

# Elements of a row, tokens of a sequence and of a window: csrc/ops/common/checks.h.
MAX_WIDTH = 2**31 - 1
