"""RMS norms (Zhang and Sennrich 2019, arXiv:1910.07467)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.ops import tracing
from vllm.ops.native import _C

if TYPE_CHECKING:
    from vllm.ops.native import Tensor


def rms_norm(out: Tensor, input: Tensor, weight: Tensor, epsilon: float) -> None:
    """out = input / sqrt(mean(input²) + epsilon) * weight, with the mean of the last dimension.

    out: [..., width], written; may be `input` itself.
    input: [..., width].
    weight: [width].
    """
    if tracing.is_tracing():
        tracing.call("rms_norm", out, input, weight, epsilon)
    else:
        _C.rms_norm(out, input, weight, epsilon)


def fused_add_rms_norm(input: Tensor, residual: Tensor, weight: Tensor, epsilon: float) -> None:
    """residual += input, then input = rms_norm(residual), both in place.

    The sum is rounded to the dtype and stored; the norm is that of the stored value.

    input: [..., width], the addend; overwritten with the norm.
    residual: [..., width], overwritten with the sum.
    weight: [width].
    """
    if tracing.is_tracing():
        tracing.call("fused_add_rms_norm", input, residual, weight, epsilon)
    else:
        _C.fused_add_rms_norm(input, residual, weight, epsilon)
