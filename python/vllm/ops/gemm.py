"""Matrix products of few rows, with what stands around a product in a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from vllm.ops import tracing
from vllm.ops.native import _C

if TYPE_CHECKING:
    from vllm.ops.native import Tensor

FEW_ROWS = 16  # at most


def few_rows_linear(
    out: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Optional[Tensor] = None,
    norm_weight: Optional[Tensor] = None,
    epsilon: float = 0.0,
    gated: bool = False,
    residual: Optional[Tensor] = None,
) -> None:
    """out = activation(norm(x) @ weight.T + bias) + residual, of at most `FEW_ROWS` rows.

    The norm is left out without `norm_weight`. What is multiplied is rounded to the dtype: the norm
    as `rms_norm` would store it or, in bfloat16 on CUDA, x * norm_weight, before it is scaled. The
    activation, if `gated`, makes silu(y) * z of the two halves y and z of a row, as `silu_and_mul`
    does; else it is left out. Nothing else is rounded in between.

    out: [rows, outputs], written; may be `residual` itself.
    x: [rows, inputs].
    weight: [outputs, inputs], or [2 * outputs, inputs] if `gated`. Rows may have any stride.
    bias: one element for each row of `weight`, or None.
    norm_weight: [inputs], or None; epsilon: see `rms_norm`.
    residual: [rows, outputs], or None.

    On CUDA it takes float16 and bfloat16 from compute capability 8.0 on, a multiple of 8 inputs,
    and rows of x and weight, and a norm_weight, that start at multiples of 16 bytes. What a row
    becomes depends on that row alone, to the last bit. weight, bias and norm_weight are read while
    kernels before may still run: none of this library's may write them in the same stream, but for
    those that another library's kernel, a copy or a synchronization has followed.
    """
    args = (out, x, weight, bias, norm_weight, epsilon, gated, residual)
    if tracing.is_tracing():
        tracing.call("few_rows_linear", *args)
    else:
        _C.few_rows_linear(*args)
