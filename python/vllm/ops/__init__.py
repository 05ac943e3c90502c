"""The ops of ``csrc/``, on torch tensors or, on the CPU, NumPy arrays.

They compute in float32, round once to the dtype of their tensors, and write results to arguments:
they allocate and return nothing. The dtype is float32, float16 or bfloat16 (in NumPy, ml_dtypes'),
the same for all floating-point arguments of a call. On CUDA they are launched on torch's current
stream of the tensors' device, and may be captured in a CUDA graph.

The last dimension must be contiguous and have at most 2³¹ - 1 elements; the leading dimensions must
have a single stride between rows. An argument that is written must not share memory with another
one, unless a docstring allows it. Errors name the op, the argument, its value and what is allowed:
ValueError (shape, stride, device), TypeError (dtype, not a tensor), IndexError, RuntimeError
(CUDA), and NativeCodeError in a build without compiled code. Autograd does not record ops.
"""

from __future__ import annotations

from vllm.ops.activation import silu_and_mul
from vllm.ops.attention import (
    AttentionPlan,
    AttentionPlanSizes,
    attention_blocks,
    attention_cluster,
    attention_plan_sizes,
    attention_shares,
    few_prefill_items,
    keys_are_ready,
    paged_attention,
    plan_attention,
    prefill_blocks,
    rotary_and_attention,
)
from vllm.ops.cache import reshape_and_cache
from vllm.ops.copy import copy_pinned, tell_device, wait_for_host
from vllm.ops.gemm import FEW_ROWS, few_rows_linear
from vllm.ops.norm import fused_add_rms_norm, rms_norm
from vllm.ops.rotary import rotary_and_cache, rotary_embedding
from vllm.ops.sampling import (
    bias_logits,
    count_tokens,
    mask_logits,
    penalize,
    sample,
    sample_workspace_size,
)
from vllm.ops.token_embedding import embedding

__all__ = [
    "embedding",
    "FEW_ROWS",
    "few_prefill_items",
    "few_rows_linear",
    "fused_add_rms_norm",
    "AttentionPlan",
    "AttentionPlanSizes",
    "attention_blocks",
    "attention_cluster",
    "attention_plan_sizes",
    "attention_shares",
    "bias_logits",
    "copy_pinned",
    "count_tokens",
    "keys_are_ready",
    "paged_attention",
    "mask_logits",
    "penalize",
    "plan_attention",
    "prefill_blocks",
    "reshape_and_cache",
    "rms_norm",
    "rotary_and_attention",
    "rotary_and_cache",
    "rotary_embedding",
    "sample",
    "sample_workspace_size",
    "silu_and_mul",
    "tell_device",
    "wait_for_host",
]
