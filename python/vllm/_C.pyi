# ruff: noqa: N999 (the name of a native module)
"""The native module, csrc/bindings.cpp. All arguments go by position; `vllm.ops` documents the ops.

A tensor is a torch.Tensor or, on the CPU, an object with ``__array_interface__``.
"""

from typing import Any, List, Optional, Tuple

def rms_norm(out: Any, input: Any, weight: Any, epsilon: float, /) -> None: ...
def fused_add_rms_norm(input: Any, residual: Any, weight: Any, epsilon: float, /) -> None: ...
def silu_and_mul(out: Any, input: Any, /) -> None: ...
def rotary_embedding(
    positions: Any,
    query: Any,
    key: Optional[Any],
    head_size: int,
    cos_sin_cache: Any,
    is_neox: bool,
    /,
) -> None: ...
def rotary_and_cache(
    positions: Any,
    query: Any,
    key: Any,
    value: Any,
    cos_sin_cache: Any,
    key_cache: Any,
    value_cache: Any,
    slot_mapping: Any,
    query_weight: Optional[Any],
    key_weight: Optional[Any],
    epsilon: float,
    /,
) -> None: ...
def reshape_and_cache(
    key: Any, value: Any, key_cache: Any, value_cache: Any, slot_mapping: Any, /
) -> None: ...
def embedding(out: Any, ids: Any, table: Any, /) -> None: ...
def paged_attention(
    out: Any,
    query: Any,
    key_cache: Any,
    value_cache: Any,
    block_tables: Any,
    context_lens: Any,
    query_starts: Any,
    scale: float,
    sliding_window: int,
    soft_cap: float,
    items: Optional[Any],
    arrivals: Optional[Any],
    partials: Optional[Any],
    decode_blocks: int,
    prefill_first: int,
    prefill_tiles: int,
    settled: bool,
    /,
) -> None: ...
def plan_attention(
    items: Any,
    context_lens: Any,
    query_starts: Any,
    heads: int,
    kv_heads: int,
    sliding_window: int,
    blocks: int,
    /,
) -> Tuple[int, int, int, int]: ...
def penalize(logits: Any, rows: Any, tokens: Any, repetition: Any, subtract: Any, /) -> None: ...
def sample(
    out: Any,
    logits: Any,
    temperatures: Optional[Any],
    top_k: Optional[Any],
    top_p: Optional[Any],
    min_p: Optional[Any],
    seeds: Optional[Any],
    draws: Optional[Any],
    workspace: Optional[Any],
    /,
) -> None: ...
def sample_workspace_size(rows: int, vocab: int, /) -> int: ...
def cpu_isa() -> str: ...
def cpu_threads() -> int: ...
def driver_version() -> int: ...
def devices() -> List[Tuple[str, int, int]]: ...
def code_folder() -> str: ...
def select_code(major: int, minor: int, /) -> str: ...
def loaded_kernels() -> List[Tuple[int, str]]: ...
def use_torch_attributes(only: bool, /) -> None: ...
