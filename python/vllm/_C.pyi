# ruff: noqa: N999 (the name of a native module)
"""The native module, csrc/bindings.cpp. All arguments go by position; `vllm.ops` documents the ops.

A test compares this file with the signatures that the module itself gives in its docstrings.
"""

from typing import Any, List, Optional, Tuple

Tensor = Any  # a torch.Tensor or, on the CPU, an object with __array_interface__

def rms_norm(out: Tensor, input: Tensor, weight: Tensor, epsilon: float, /) -> None: ...
def fused_add_rms_norm(
    input: Tensor, residual: Tensor, weight: Tensor, epsilon: float, /
) -> None: ...
def silu_and_mul(out: Tensor, input: Tensor, /) -> None: ...
def few_rows_linear(
    out: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Optional[Tensor],
    norm_weight: Optional[Tensor],
    epsilon: float,
    gated: bool,
    residual: Optional[Tensor],
    /,
) -> None: ...
def rotary_embedding(
    positions: Tensor,
    query: Tensor,
    key: Optional[Tensor],
    head_size: int,
    cos_sin_cache: Tensor,
    is_neox: bool,
    /,
) -> None: ...
def rotary_and_cache(
    positions: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cos_sin_cache: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    slot_mapping: Tensor,
    query_weight: Optional[Tensor],
    key_weight: Optional[Tensor],
    epsilon: float,
    metadata_ready: bool,
    /,
) -> None: ...
def reshape_and_cache(
    key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slot_mapping: Tensor, /
) -> None: ...
def embedding(out: Tensor, ids: Tensor, table: Tensor, /) -> None: ...
def paged_attention(
    out: Tensor,
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_tables: Tensor,
    context_lens: Tensor,
    query_starts: Tensor,
    scale: float,
    sliding_window: int,
    soft_cap: float,
    sinks: Optional[Tensor],
    key_scale: float,
    value_scale: float,
    items: Optional[Tensor],
    arrivals: Optional[Tensor],
    partials: Optional[Tensor],
    decode_blocks: int,
    prefill_first: int,
    prefill_tiles: int,
    metadata_ready: bool,
    cluster: int,
    /,
) -> None: ...
def rotary_and_attention(
    out: Tensor,
    positions: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cos_sin_cache: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    slot_mapping: Tensor,
    block_tables: Tensor,
    context_lens: Tensor,
    query_starts: Tensor,
    scale: float,
    sliding_window: int,
    soft_cap: float,
    query_weight: Optional[Tensor],
    key_weight: Optional[Tensor],
    epsilon: float,
    items: Optional[Tensor],
    arrivals: Optional[Tensor],
    partials: Optional[Tensor],
    decode_blocks: int,
    prefill_first: int,
    prefill_tiles: int,
    metadata_ready: bool,
    cluster: int,
    /,
) -> None: ...
def attention_cluster(
    sequences: int, heads: int, kv_heads: int, head_size: int, blocks: int, device: int, /
) -> int: ...
def keys_are_ready(
    context_lens: Tensor, query_starts: Tensor, block_tables: Tensor, block_size: int, /
) -> bool: ...
def attention_blocks(head_size: int, device: int, /) -> int: ...
def prefill_blocks(head_size: int, device: int, /) -> int: ...
def attention_plan_sizes(
    tokens: int, sequences: int, heads: int, kv_heads: int, head_size: int, blocks: int, /
) -> Tuple[int, int, int, int, int]: ...
def plan_attention(
    items: Tensor,
    context_lens: Tensor,
    query_starts: Tensor,
    heads: int,
    kv_heads: int,
    sliding_window: int,
    blocks: int,
    prefill_blocks: int,
    block_tables: Optional[Tensor],
    block_size: int,
    cluster: int,
    few_items: int,
    /,
) -> Tuple[int, int, int, int, int]: ...
def few_prefill_items(kv_heads: int, head_size: int, device: int, /) -> int: ...
def attention_shares(head_size: int, block_size: int, device: int, /) -> bool: ...
def copy_pinned(out: Tensor, input: Tensor, /) -> None: ...
def wait_for_host(gate: Tensor, due: Tensor, nanoseconds: int, /) -> None: ...
def tell_device(gate: Tensor, value: int, /) -> None: ...
def count_tokens(
    seen: Tensor,
    uses: Tensor,
    counters: Tensor,
    starts: Tensor,
    tokens: Tensor,
    counts: Tensor,
    /,
) -> None: ...
def penalize(
    logits: Tensor,
    inputs: Tensor,
    counters: Tensor,
    counts: Tensor,
    repetition: Tensor,
    presence: Tensor,
    frequency: Tensor,
    seen: Tensor,
    uses: Tensor,
    /,
) -> None: ...
def bias_logits(
    logits: Tensor, rows: Tensor, tokens: Tensor, amounts: Tensor, after: Tensor, inputs: Tensor, /
) -> None: ...
def mask_logits(logits: Tensor, rows: Tensor, bits: Tensor, /) -> None: ...
def sample(
    out: Tensor,
    logits: Tensor,
    temperatures: Optional[Tensor],
    top_k: Optional[Tensor],
    top_p: Optional[Tensor],
    min_p: Optional[Tensor],
    seeds: Optional[Tensor],
    draws: Optional[Tensor],
    workspace: Optional[Tensor],
    /,
) -> None: ...
def sample_workspace_size(rows: int, vocab: int, /) -> int: ...
def exchange_bytes(ranks: int, rows: int, row_bytes: int, /) -> int: ...
def all_reduce(
    out: Tensor,
    input: Tensor,
    two_shots: bool,
    addresses: Optional[Tensor],
    rank: int,
    rows: int,
    row_bytes: int,
    stop: int,
    /,
) -> None: ...
def all_reduce_add_rms_norm(
    input: Tensor,
    residual: Tensor,
    weight: Tensor,
    epsilon: float,
    two_shots: bool,
    addresses: Optional[Tensor],
    rank: int,
    rows: int,
    row_bytes: int,
    stop: int,
    /,
) -> None: ...
def allocate_peer_memory(device: int, bytes: int, zeros: int, /) -> int: ...
def free_peer_memory(device: int, address: int, /) -> None: ...
def peer_memory_handle(device: int, address: int, handle: Tensor, /) -> None: ...
def open_peer_memory(device: int, handle: Tensor, /) -> int: ...
def close_peer_memory(device: int, address: int, /) -> None: ...
def cpu_isa() -> str: ...
def cpu_threads() -> int: ...
def driver_version() -> int: ...
def devices() -> List[Tuple[str, int, int]]: ...
def code_folder() -> str: ...
def select_code(major: int, minor: int, /) -> str: ...
def loaded_kernels() -> List[Tuple[int, str]]: ...
def use_torch_attributes(only: bool, /) -> None: ...
