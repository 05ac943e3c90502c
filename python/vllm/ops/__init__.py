"""The ops of ``csrc/``, on torch tensors or, on the CPU, NumPy arrays.

They compute in float32, round once to the dtype of their tensors, and write to arguments: nothing
is allocated or returned. dtypes are float32, float16 and bfloat16 (in NumPy, that of ml_dtypes),
one for all floating-point arguments of a call. On CUDA they are launched on torch's current stream
of the tensors' device, and may be captured in a CUDA graph.

The last dimension must be contiguous and of at most 2³¹ - 1 elements; leading dimensions may have
any one stride between rows. What is written to shares no memory with another argument, but where a
docstring allows it. Errors name the op, the argument, what it got and what it takes: ValueError
(shape, stride, device), TypeError (dtype, not a tensor), IndexError, RuntimeError (CUDA), and
NativeCodeError in a build without compiled code. Autograd sees nothing of all this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from vllm.ops import tracing
from vllm.ops.native import _C

if TYPE_CHECKING:
    import numpy as np
    import torch

    Tensor = Union[torch.Tensor, np.ndarray[Any, Any]]

__all__ = ["fused_add_rms_norm", "rms_norm", "rotary_embedding", "silu_and_mul"]


def _look_for_torch() -> bool:
    """Whether Dynamo traces the caller; once torch is imported, torch's own function answers."""
    global _is_tracing
    is_tracing = tracing.find_is_tracing()
    if is_tracing is None:
        return False
    _is_tracing = is_tracing
    return is_tracing()


_is_tracing: Callable[[], bool] = _look_for_torch


def rms_norm(out: Tensor, input: Tensor, weight: Tensor, epsilon: float) -> None:
    """out = input / sqrt(mean(input²) + epsilon) * weight, with the mean of the last dimension.

    out: [..., width], written; may be `input` itself.
    input: [..., width].
    weight: [width].
    """
    if _is_tracing():
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
    if _is_tracing():
        tracing.call("fused_add_rms_norm", input, residual, weight, epsilon)
    else:
        _C.fused_add_rms_norm(input, residual, weight, epsilon)


def silu_and_mul(out: Tensor, input: Tensor) -> None:
    """out = silu(x) * y, where input is x and y side by side and silu(x) = x / (1 + exp(-x)).

    out: [..., width], written.
    input: [..., 2 * width].
    """
    if _is_tracing():
        tracing.call("silu_and_mul", out, input)
    else:
        _C.silu_and_mul(out, input)


def rotary_embedding(
    positions: Tensor,
    query: Tensor,
    key: Optional[Tensor],
    head_size: int,
    cos_sin_cache: Tensor,
    is_neox: bool = True,
) -> None:
    """Rotates pairs of elements of each head of query and key by angles of their position, in place
    (Su et al. 2021, arXiv:2104.09864).

    Only the first rotary_size elements of a head are rotated. NeoX pairs element i with
    i + rotary_size / 2, GPT-J pairs 2 i with 2 i + 1.

    positions: int64 [tokens], each in [0, max_position). Out of range: IndexError on the CPU,
        before anything is written; on CUDA the rotated elements of that token become NaN.
    query: [tokens, heads * head_size] or [tokens, heads, head_size], written. Tokens and heads may
        have any strides, as in a slice of a joint query-key-value projection.
    key: likewise, with heads of its own number, or None.
    cos_sin_cache: [max_position, rotary_size], the dtype of query: for each position the cosines,
        then the sines, of rotary_size / 2 angles; rotary_size is even and at most head_size.
    """
    if _is_tracing():
        tracing.call("rotary_embedding", positions, query, key, head_size, cos_sin_cache, is_neox)
    else:
        _C.rotary_embedding(positions, query, key, head_size, cos_sin_cache, is_neox)
