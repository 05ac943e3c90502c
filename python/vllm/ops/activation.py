"""The gated activation of an MLP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.ops import tracing
from vllm.ops.native import _C

if TYPE_CHECKING:
    from vllm.ops.native import Tensor


def silu_and_mul(out: Tensor, input: Tensor) -> None:
    """out = silu(x) * y, where input is x and y concatenated, and silu(x) = x / (1 + exp(-x)).

    out: [..., width], written.
    input: [..., 2 * width].
    """
    if tracing.is_tracing():
        tracing.call("silu_and_mul", out, input)
    else:
        _C.silu_and_mul(out, input)
