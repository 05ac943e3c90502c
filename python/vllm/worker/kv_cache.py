"""Chooses the size of the KV cache and allocates it."""

from __future__ import annotations

import logging
from typing import Callable, List

import torch

from vllm.config import ModelConfig
from vllm.engine_args import EngineArgs
from vllm.layers.attention import KVCache
from vllm.parallel.group import Group
from vllm.parallel.shard import split_or_copy
from vllm.worker.memory import free_memory

logger = logging.getLogger(__name__)

_GIB = 1 << 30
# The most that the cache takes of a CPU's memory by default: other programs need memory too.
_CPU_DEFAULT_BYTES = 4 * _GIB


def block_bytes(config: ModelConfig, block_size: int, dtype: torch.dtype, group: Group) -> int:
    """Bytes of one KV block in a rank: keys and values of `block_size` tokens in every layer."""
    kv_heads = split_or_copy(config.num_key_value_heads, group).size
    return 2 * config.num_hidden_layers * kv_heads * config.head_dim * block_size * dtype.itemsize


def choose_num_blocks(
    args: EngineArgs,
    config: ModelConfig,
    dtype: torch.dtype,
    device: torch.device,
    max_model_len: int,
    group: Group,
    step_bytes: Callable[[], int],
) -> int:
    """The number of KV blocks: as the arguments say, else as many as the free memory holds.

    Called after the model is loaded. Other ranks may have memory for fewer.

    step_bytes: measures the memory that steps take beside weights and cache; called only on CUDA,
        and only if the arguments set no size.

    Raises ValueError if not even one block fits.
    """
    if args.num_kv_blocks is not None:
        return args.num_kv_blocks
    size = block_bytes(config, args.block_size, dtype, group)
    if args.kv_cache_memory_bytes is not None:
        available = args.kv_cache_memory_bytes
    elif device.type == "cuda":
        available = _free_on_cuda(args, device, step_bytes())
    else:  # ranks of one machine share its memory
        free = int(_free_on_cpu() * args.gpu_memory_utilization) // group.size
        available = min(free, _CPU_DEFAULT_BYTES)
    useful = args.max_num_seqs * -(-max_model_len // args.block_size)
    num_blocks = min(available // size, useful)
    if num_blocks < 1:
        raise ValueError(
            f"no memory for the KV cache: a block of {args.block_size} tokens takes {size:,} "
            f"bytes, {available:,} are available; raise gpu_memory_utilization or "
            f"kv_cache_memory_bytes, or choose a smaller model"
        )
    return num_blocks


def fit_max_model_len(args: EngineArgs, config: ModelConfig, num_blocks: int) -> int:
    """The most tokens of a sequence: `args.max_model_len`, else what the model and the cache allow.

    Raises ValueError if `args.max_model_len` does not fit in the cache.
    """
    room = num_blocks * args.block_size
    if args.max_model_len is not None:
        if args.max_model_len > room:
            raise ValueError(
                f"max_model_len ({args.max_model_len}) does not fit in the cache of {room} tokens; "
                f"lower it, or raise kv_cache_memory_bytes or num_kv_blocks"
            )
        return args.max_model_len
    if config.max_model_len > room:
        logger.warning(
            "sequences are limited to the %d tokens that the cache holds; the model was made "
            "for %d",
            room,
            config.max_model_len,
        )
    return min(config.max_model_len, room)


def allocate(
    config: ModelConfig,
    num_blocks: int,
    block_size: int,
    dtype: torch.dtype,
    device: torch.device,
    group: Group,
) -> List[KVCache]:
    """Allocates keys and values of the rank's heads for every layer, uninitialised: a slot is
    never read before it is written.

    Heads come before slots in memory, so that one head of a KV block, which attention reads at a
    time, is contiguous.

    Raises ValueError if the device has too little memory.
    """
    kv_heads = split_or_copy(config.num_key_value_heads, group).size
    shape = (num_blocks, kv_heads, block_size, config.head_dim)

    def cache() -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device=device).transpose(1, 2)

    try:
        return [(cache(), cache()) for _ in range(config.num_hidden_layers)]
    except RuntimeError as error:  # also torch.OutOfMemoryError
        size = num_blocks * block_bytes(config, block_size, dtype, group)
        raise ValueError(
            f"a KV cache of {num_blocks} blocks, {size:,} bytes, cannot be allocated on {device}: "
            f"lower num_kv_blocks or kv_cache_memory_bytes"
        ) from error


def _free_on_cuda(args: EngineArgs, device: torch.device, step_bytes: int) -> int:
    torch.cuda.empty_cache()  # memory that torch cached while loading and measuring is free too
    free, total = torch.cuda.mem_get_info(device)
    return int(total * args.gpu_memory_utilization) - (total - free) - step_bytes


def _free_on_cpu() -> int:
    """Bytes that can be allocated without swapping; if unknown, the default size of the cache."""
    free = free_memory()
    return _CPU_DEFAULT_BYTES if free is None else free
