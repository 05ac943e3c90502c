"""Matrix products of few rows, fused with the operations around them."""

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
    """out = activation(norm(x) @ weight.T + bias) + residual, for at most `FEW_ROWS` rows.

    Without `norm_weight` there is no norm. The left factor is rounded to the dtype: it is the norm
    as `rms_norm` stores it or, in bfloat16 on CUDA, x * norm_weight, scaled after the product. If
    `gated`, the activation is silu(y) * z of the two halves y and z of a row, as in `silu_and_mul`;
    otherwise there is none. No other intermediate is rounded.

    out: [rows, outputs], written; may be `residual` itself.
    x: [rows, inputs].
    weight: [outputs, inputs], or [2 * outputs, inputs] if `gated`. Rows may have any stride.
    bias: one element for each row of `weight`, or None.
    norm_weight: [inputs], or None; epsilon: see `rms_norm`.
    residual: [rows, outputs], or None.

    On CUDA it needs float16 or bfloat16, compute capability 8.0, a multiple of 8 inputs, and
    norm_weight and rows of x and weight that start at multiples of 16 bytes. The bits of a row
    depend on that row alone. With PDL, weight, bias and norm_weight are read while earlier kernels
    may still run: if a kernel of this library has written them in the same stream, another
    library's kernel, a copy or a synchronization must come between.
    """
    args = (out, x, weight, bias, norm_weight, epsilon, gated, residual)
    if tracing.is_tracing():
        tracing.call("few_rows_linear", *args)
    else:
        _C.few_rows_linear(*args)
