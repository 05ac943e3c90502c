"""Loads a rank's part of the model: from arguments to an executor."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Optional

import torch

from vllm.config import ModelConfig, read_architecture
from vllm.engine_args import EngineArgs
from vllm.models.hub import find_folder
from vllm.models.loader import load_model
from vllm.models.registry import find_architecture
from vllm.parallel.group import Group, SingleGroup
from vllm.parallel.shard import require_size
from vllm.worker import kv_cache
from vllm.worker.budget import Advice, advise
from vllm.worker.dry_run import step_bytes
from vllm.worker.local import LocalExecutor
from vllm.worker.model_runner import ModelRunner

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadPlan:
    """What to load, and onto which device.

    max_model_len: the most tokens of a sequence; the size of the cache may lower it later.
    advice: the default token budgets of a step.
    """

    folder: Path
    config: ModelConfig
    device: torch.device
    dtype: torch.dtype
    max_model_len: int
    advice: Advice


def make_plan(args: EngineArgs, local_rank: int = 0) -> LoadPlan:
    """Checks everything that can be checked before the weights are read.

    local_rank: the index of this rank among those of its machine, and so of its GPU.

    Raises `vllm.config.ModelError` for a model that cannot be run, ValueError for arguments that
    contradict each other or the machine.
    """
    folder = find_folder(args.model, args.revision)
    # First: config.json of an unsupported architecture may have other fields.
    find_architecture(read_architecture(folder))
    config = ModelConfig.read(folder)
    require_size(config, args.tensor_parallel_size)
    device = _device(args.device, args.tensor_parallel_size, local_rank)
    dtype: torch.dtype = getattr(torch, config.dtype if args.dtype == "auto" else args.dtype)
    max_model_len = args.max_model_len or config.max_model_len
    if max_model_len > config.max_model_len:
        raise ValueError(
            f"max_model_len ({max_model_len}) is more than the "
            f"{config.max_model_len} tokens that this model was made for"
        )
    advice = advise(config, dtype, device, args.tensor_parallel_size)
    args.token_budget(max_model_len, advice.tokens)
    return LoadPlan(folder, config, device, dtype, max_model_len, advice)


def load(
    args: EngineArgs,
    plan: LoadPlan,
    group: Optional[Group] = None,
    agree: Callable[[int], int] = lambda num_blocks: num_blocks,
) -> LocalExecutor:
    """Loads this rank's part of the model onto its device, and allocates its KV cache.

    agree: returns the minimum of the ranks' numbers of KV blocks.
    """
    phases = Phases()
    group = group or SingleGroup()
    config, device, dtype = plan.config, plan.device, plan.dtype
    length = plan.max_model_len
    model = load_model(
        plan.folder,
        config,
        dtype=dtype,
        device=device,
        max_model_len=length,
        group=group,
        note=phases.end,
    )

    def measure() -> int:
        budget = args.token_budget(length, plan.advice.prompt_tokens)
        return step_bytes(model, args, device, dtype, length, budget)

    chosen = kv_cache.choose_num_blocks(args, config, dtype, device, length, group, measure)
    num_blocks = agree(chosen)
    phases.end("largest step")
    caches = kv_cache.allocate(config, num_blocks, args.block_size, dtype, device, group)
    overlaps = args.async_scheduling
    runner = ModelRunner(
        model,
        caches,
        device=device,
        max_num_seqs=args.max_num_seqs,
        use_graphs=not args.enforce_eager,
        share_tokens=(device.type == "cuda" if overlaps is None else overlaps) and group.size > 1,
    )
    phases.end("cache")
    logger.info(
        "%s in %s on %s, cache of %d blocks of %d tokens, rank %d of %d; loaded in %s",
        config.architecture,
        dtype,
        device,
        num_blocks,
        args.block_size,
        group.rank,
        group.size,
        phases,
    )
    executor = LocalExecutor(runner, num_blocks=num_blocks, block_size=args.block_size)
    executor.load_seconds = phases.seconds
    return executor


class Phases:
    """Measures the phases of loading. seconds: by the name of each phase that has ended."""

    def __init__(self) -> None:
        self.seconds: Dict[str, float] = {}
        self._started = time.monotonic()

    def end(self, name: str) -> None:
        """Ends the current phase, which has this name, and begins the next."""
        now = time.monotonic()
        self.seconds[name], self._started = now - self._started, now

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in self.seconds.items())
        return f"{sum(self.seconds.values()):.2f} s ({parts})"


def _device(name: str, num_ranks: int, local_rank: int) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device must be auto, cpu or cuda[:N], got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or cuda[:N], got {name!r}")
    if device.type == "cuda":
        num_devices = torch.cuda.device_count()
        if not num_devices:
            raise ValueError(f"device is {name!r}, but torch finds no CUDA device")
        if num_ranks > 1:
            return _device_of_rank(name, num_devices, num_ranks, local_rank)
        if name == "cuda":  # torch's current device, fixed from now on
            device = torch.device("cuda", torch.cuda.current_device())
        if device.index >= num_devices:
            raise ValueError(f"device is {name!r}, but the last GPU is cuda:{num_devices - 1}")
    return device


def _device_of_rank(name: str, num_devices: int, num_ranks: int, local_rank: int) -> torch.device:
    if name != "cuda":
        raise ValueError(
            f"device must be auto or cuda with tensor_parallel_size {num_ranks}, got "
            f"{name!r}: each rank has its own GPU; choose them by CUDA_VISIBLE_DEVICES"
        )
    if local_rank >= num_devices:
        raise ValueError(
            f"rank {local_rank} of this machine has no GPU: torch finds {num_devices}, and each of "
            f"tensor_parallel_size ({num_ranks}) ranks needs one"
        )
    return torch.device("cuda", local_rank)
