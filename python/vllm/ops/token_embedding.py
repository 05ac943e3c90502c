"""Looks up token embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.ops import tracing
from vllm.ops.native import _C

if TYPE_CHECKING:
    from vllm.ops.native import Tensor


def embedding(out: Tensor, ids: Tensor, table: Tensor) -> None:
    """out = table[ids], row by row.

    out: [tokens, width], written.
    ids: int64 [tokens], each in [0, rows). Out of range: IndexError on the CPU, before anything is
        written; on CUDA that token's row becomes NaN.
    table: [rows, width].
    """
    if tracing.is_tracing():
        tracing.call("embedding", out, ids, table)
    else:
        _C.embedding(out, ids, table)
