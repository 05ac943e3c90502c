"""Small copies between a GPU and its host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.ops.native import _C

if TYPE_CHECKING:
    from vllm.ops.native import Tensor


def copy_pinned(out: Tensor, input: Tensor) -> None:
    """Copies a few numbers to or from a GPU with a kernel on its current stream. That is faster
    than the copy engine, which waits for the kernels before it and delays those after it.

    out, input: int64 [count], one on a GPU and the other in pinned host memory. ValueError if that
        is not pinned.
    """
    _C.copy_pinned(out, input)
