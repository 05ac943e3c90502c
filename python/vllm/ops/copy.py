"""Between a GPU and its host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.ops.native import _C

if TYPE_CHECKING:
    from vllm.ops.native import Tensor


def copy_pinned(out: Tensor, input: Tensor) -> None:
    """Copies a few numbers to or from a GPU, by a kernel on its current stream: sooner done than by
    the copy engine, which other kernels wait for, and which waits for them.

    out, input: int64 [count], one on a GPU and the other in pinned memory of the host. ValueError
        if it is not pinned.
    """
    _C.copy_pinned(out, input)
