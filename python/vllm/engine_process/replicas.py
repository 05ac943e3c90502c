"""Divides a machine among engines and front processes: GPUs, and processors."""

from __future__ import annotations

import os
from typing import Dict, List

from vllm import platform
from vllm.engine_args import EngineArgs

# The most that an H200 was measured with. Each takes memory for a tokenizer.
_MOST_FRONTS = 8


def environments(args: EngineArgs, num_engines: int) -> List[Dict[str, str]]:
    """Environment variables for each engine's process; none for a single engine.

    Raises ValueError if the machine has too few GPUs, or if `args.device` names one GPU.
    """
    if num_engines < 1:
        raise ValueError(f"data_parallel_size must be an integer, at least 1, got {num_engines}")
    if num_engines == 1:
        return [{}]
    if "WORLD_SIZE" in os.environ:
        raise ValueError(
            f"data_parallel_size is {num_engines}, but torchrun has started this process: start a "
            f"server for each replica instead, behind a load balancer"
        )
    if args.distributed_executor_backend == "ray":
        raise ValueError(
            f"data_parallel_size is {num_engines}, and Ray places the ranks of one engine: start a "
            f"server for each replica instead, and balance their load"
        )
    if not _uses_gpus(args):
        return _shares_of_processors(num_engines)
    if args.device not in ("auto", "cuda"):
        raise ValueError(
            f"device must be auto, cuda or cpu with data_parallel_size {num_engines}, got "
            f"{args.device!r}: choose the GPUs of the replicas by CUDA_VISIBLE_DEVICES"
        )
    each, gpus = args.tensor_parallel_size, _gpus()
    if num_engines * each > len(gpus):
        raise ValueError(
            f"data_parallel_size {num_engines} × tensor_parallel_size {each} needs "
            f"{num_engines * each} GPUs, but there are {len(gpus)}"
        )
    return [
        {"CUDA_VISIBLE_DEVICES": ",".join(gpus[start : start + each])}
        for start in range(0, num_engines * each, each)
    ]


def choose_num_fronts(args: EngineArgs) -> int:
    """Processes that handle HTTP, for a server whose user leaves it open.

    One where the engines compute on the processors. On GPUs a quarter of the processors, at most 8:
    an engine needs one, and clients, the ranks of a divided model and grammars some.
    """
    if not _uses_gpus(args):
        return 1
    return max(1, min(_MOST_FRONTS, len(os.sched_getaffinity(0)) // 4))


def _uses_gpus(args: EngineArgs) -> bool:
    """Whether the engines compute on GPUs."""
    if args.device != "auto":
        return args.device.startswith("cuda")
    torch = platform.torch_build()
    return torch is not None and torch.cuda is not None and bool(_gpus())


def _gpus() -> List[str]:
    """The GPUs, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    return [str(index) for index in range(len(platform.installed_gpus()))]


def _shares_of_processors(num_engines: int) -> List[Dict[str, str]]:
    threads = str(max(1, len(os.sched_getaffinity(0)) // num_engines))
    names = ("OMP_NUM_THREADS", "VLLM_CPU_THREADS")
    share = {name: os.environ.get(name, threads) for name in names}
    return [share] * num_engines
