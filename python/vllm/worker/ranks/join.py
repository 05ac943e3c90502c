"""What every rank does before the first step: compare, connect, load."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from datetime import timedelta
from typing import Any, Dict, List, NamedTuple, Optional, Union

import torch

from vllm.engine_args import EngineArgs
from vllm.parallel.cuda_group import CudaGroup, connect_nccl
from vllm.parallel.peer_memory import open_peer_memory
from vllm.parallel.torch_group import TorchGroup, connect_gloo
from vllm.version import build
from vllm.worker.load import LoadPlan, load
from vllm.worker.local import LocalExecutor
from vllm.worker.ranks.channel import StepChannel
from vllm.worker.ranks.meeting import Meeting
from vllm.worker.ranks.watch import Progress, Watch

# A collective of a step may take this long although no rank is late; `Watch` finds late ranks.
_EXCHANGE = timedelta(seconds=60)
# Between two steps there may be days.
_UNTIL_NEXT_STEP = timedelta(days=365)

# The rows that peer memory has room for; more are exchanged one part after another. With more rows
# at once an exchange reaches no more bandwidth (benchmarks/cuda_all_reduce.py).
_PEER_ROWS = 2048

# Arguments that may differ between ranks: machines may keep the model in different folders.
_OWN_ARGS = ("model", "tokenizer", "revision", "device")


class Rank(NamedTuple):
    """A rank that is ready for steps.

    progress: updated by the code that runs its steps.
    cuda_group: exchanges tensors; None on the CPU.
    """

    executor: LocalExecutor
    channel: StepChannel
    progress: Progress
    cuda_group: Optional[CudaGroup]


def join(args: EngineArgs, plan: LoadPlan, meeting: Meeting, watch: Watch) -> Rank:
    """Call it in all ranks; returns when all of them are ready.

    Raises ValueError if the ranks differ in version, arguments or model, RankError if another rank
    fails.
    """
    compare(meeting.exchange("hello", _description(args, plan), watch.check))
    steps = connect_gloo(
        meeting.part("steps"),
        meeting.rank,
        meeting.size,
        timeout=_UNTIL_NEXT_STEP,
        address=meeting.address,
    )
    group = _connect_tensors(plan, meeting, watch)

    def least(num_blocks: int) -> int:
        return min(int(other) for other in meeting.exchange("blocks", num_blocks, watch.check))

    executor = load(args, plan, group, least)
    meeting.exchange("ready", True, watch.check)
    progress = Progress()
    if isinstance(group, CudaGroup):  # collectives run long after the host has launched them
        watch.follow(progress)
        return Rank(executor, StepChannel(steps), progress, group)
    watch.follow(group)
    return Rank(executor, StepChannel(steps), progress, None)


def _connect_tensors(
    plan: LoadPlan, meeting: Meeting, watch: Watch
) -> Union[TorchGroup, CudaGroup]:
    store, rank, size = meeting.part("tensors"), meeting.rank, meeting.size
    if plan.device.type == "cpu":
        return connect_gloo(store, rank, size, timeout=_EXCHANGE, address=meeting.address)
    group = connect_nccl(
        store,
        rank,
        size,
        device=plan.device,
        timeout=_EXCHANGE,
        loopback=meeting.is_local,
    )
    group.memory = open_peer_memory(
        plan.device,
        rank,
        size,
        _PEER_ROWS,
        plan.config.hidden_size * plan.dtype.itemsize,
        lambda topic, note: meeting.exchange(topic, note, watch.check),
    )
    return group


def compare(descriptions: List[Dict[str, Any]]) -> None:
    """Raises ValueError with the first difference between rank 0 and another rank."""
    first = descriptions[0]
    for rank, other in enumerate(descriptions):
        for name, value in first.items():
            if other.get(name) != value:
                raise ValueError(
                    f"ranks must not differ: {name} is {value!r} in rank 0, and "
                    f"{other.get(name)!r} in rank {rank}"
                )


def _description(args: EngineArgs, plan: LoadPlan) -> Dict[str, Any]:
    """What must be the same in all ranks."""
    this = build()
    given = dataclasses.asdict(args)
    return {
        "the version of vllm": this.version,
        "the commit of vllm": this.commit,
        "the version of torch": torch.__version__,
        "the byte order": sys.byteorder,
        "the digest of config.json": hashlib.sha256(
            (plan.folder / "config.json").read_bytes()
        ).hexdigest(),
        "the type of device": plan.device.type,
        **{name: value for name, value in given.items() if name not in _OWN_ARGS},
    }
