"""Makes the ops work under ``torch.compile``, which cannot trace into compiled code.

While Dynamo traces, a call goes through ``torch.ops.vllm.<name>``: a registered operator, whose
schema names the arguments that it writes to. Outside of a trace the ops are called directly,
because a registered operator adds 10 to 25 µs per call. This module imports torch only if the
program already has.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Callable, Optional

from vllm.ops.native import _C

if TYPE_CHECKING:
    import torch

_SCHEMAS = {
    "rms_norm": "(Tensor(a!) out, Tensor input, Tensor weight, float epsilon) -> ()",
    "fused_add_rms_norm": (
        "(Tensor(a!) input, Tensor(b!) residual, Tensor weight, float epsilon) -> ()"
    ),
    "silu_and_mul": "(Tensor(a!) out, Tensor input) -> ()",
    "few_rows_linear": (
        "(Tensor(a!) out, Tensor x, Tensor weight, Tensor? bias, Tensor? norm_weight, "
        "float epsilon, bool gated, Tensor? residual) -> ()"
    ),
    "rotary_embedding": (
        "(Tensor positions, Tensor(a!) query, Tensor(b!)? key, int head_size, "
        "Tensor cos_sin_cache, bool is_neox) -> ()"
    ),
    "rotary_and_cache": (
        "(Tensor positions, Tensor(a!) query, Tensor key, Tensor value, Tensor cos_sin_cache, "
        "Tensor(b!) key_cache, Tensor(c!) value_cache, Tensor slot_mapping, "
        "Tensor? query_weight, Tensor? key_weight, float epsilon, bool metadata_ready) -> ()"
    ),
    "reshape_and_cache": (
        "(Tensor key, Tensor value, Tensor(a!) key_cache, Tensor(b!) value_cache, "
        "Tensor slot_mapping) -> ()"
    ),
    "embedding": "(Tensor(a!) out, Tensor ids, Tensor table) -> ()",
    "paged_attention": (
        "(Tensor(a!) out, Tensor query, Tensor key_cache, Tensor value_cache, "
        "Tensor block_tables, Tensor context_lens, Tensor query_starts, float scale, "
        "int sliding_window, float soft_cap, Tensor? sinks, float key_scale, float value_scale, "
        "Tensor? items, Tensor(b!)? arrivals, Tensor(c!)? partials, int decode_blocks, "
        "int prefill_first, int prefill_tiles, bool metadata_ready, int cluster) -> ()"
    ),
    "rotary_and_attention": (
        "(Tensor(a!) out, Tensor positions, Tensor(d!) query, Tensor key, Tensor value, "
        "Tensor cos_sin_cache, Tensor(e!) key_cache, Tensor(f!) value_cache, Tensor slot_mapping, "
        "Tensor block_tables, Tensor context_lens, Tensor query_starts, float scale, "
        "int sliding_window, float soft_cap, Tensor? query_weight, Tensor? key_weight, "
        "float epsilon, Tensor? items, Tensor(b!)? arrivals, Tensor(c!)? partials, "
        "int decode_blocks, int prefill_first, int prefill_tiles, bool metadata_ready, "
        "int cluster) -> ()"
    ),
    "count_tokens": (
        "(Tensor(a!) seen, Tensor(b!) uses, Tensor counters, Tensor starts, Tensor tokens, "
        "Tensor counts) -> ()"
    ),
    "penalize": (
        "(Tensor(a!) logits, Tensor inputs, Tensor counters, Tensor counts, Tensor repetition, "
        "Tensor presence, Tensor frequency, Tensor(b!) seen, Tensor(c!) uses) -> ()"
    ),
    "bias_logits": (
        "(Tensor(a!) logits, Tensor rows, Tensor tokens, Tensor amounts, Tensor after, "
        "Tensor inputs) -> ()"
    ),
    "mask_logits": "(Tensor(a!) logits, Tensor rows, Tensor bits) -> ()",
    "sample": (
        "(Tensor(a!) out, Tensor logits, Tensor? temperatures, Tensor? top_k, Tensor? top_p, "
        "Tensor? min_p, Tensor? seeds, Tensor? draws, Tensor(b!)? workspace) -> ()"
    ),
}

_library: Optional[torch.library.Library] = None  # keeps the operators registered


def register() -> bool:
    """Registers ``torch.ops.vllm.*`` with torch, once. Returns True: Dynamo needs a constant."""
    global _library
    if _library is None:
        import torch

        untyped: Any = torch.library  # in some versions of torch
        library = untyped.Library("vllm", "FRAGMENT")
        for name, schema in _SCHEMAS.items():
            library.define(name + schema)
            for key in ("CPU", "CUDA"):
                library.impl(name, getattr(_C, name), key)
            library.impl(name, _shape_only, "Meta")
        _library = library
    return True


# Dynamo calls it for real, once per trace, instead of tracing into it.
register._dynamo_marked_constant = True  # type: ignore[attr-defined]


def call(op: str, *args: object) -> None:
    """Adds a call of `op` to the graph that Dynamo is tracing."""
    import torch

    register()
    getattr(torch.ops.vllm, op)(*args)


def _shape_only(*args: object) -> None:
    """The Meta implementation of all ops: shapes do not change, and nothing is returned."""


def _find_torch() -> bool:
    """Whether Dynamo traces the caller. Once torch is imported, replaces itself by torch's
    function."""
    global is_tracing
    if sys.modules.get("torch") is None:
        return False
    import torch

    # No `try`: Dynamo may be tracing this function, and that of torch 2.1 cannot trace an
    # AttributeError.
    if hasattr(torch.compiler, "is_dynamo_compiling"):
        is_tracing = torch.compiler.is_dynamo_compiling
    else:
        is_tracing = torch._dynamo.is_compiling  # 2.1 and 2.2; importing it takes a second
    return is_tracing()


is_tracing: Callable[[], bool] = _find_torch
