"""What every rank does before the first step: compare, connect, load."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from datetime import timedelta
from typing import Any, Dict, List, NamedTuple

import torch

from vllm.engine_args import EngineArgs
from vllm.parallel.torch_group import connect_gloo
from vllm.version import build
from vllm.worker.load import Plan, load
from vllm.worker.local import LocalExecutor
from vllm.worker.ranks.channel import StepChannel
from vllm.worker.ranks.meeting import Meeting
from vllm.worker.ranks.watch import Watch

# An exchange of a step in which nobody is late may still take long. `Watch` finds who is late.
_EXCHANGE = timedelta(seconds=60)
# Between two steps there may be days.
_UNTIL_NEXT_STEP = timedelta(days=365)

# Where a model lies may differ between machines.
_OWN_ARGS = ("model", "tokenizer", "revision", "device")


class Rank(NamedTuple):
    """A rank that is ready for steps."""

    executor: LocalExecutor
    channel: StepChannel


def join(args: EngineArgs, plan: Plan, meeting: Meeting, watch: Watch) -> Rank:
    """To be called in all ranks; returns when all of them are ready.

    Raises ValueError where ranks would not compute the same, RankError if another one fails.
    """
    rank, size = meeting.rank, meeting.size
    compare(meeting.exchange("hello", _description(args, plan), watch.check))
    tensors, steps = (
        connect_gloo(meeting.part(name), rank, size, timeout=timeout, loopback=meeting.loopback)
        for name, timeout in (("tensors", _EXCHANGE), ("steps", _UNTIL_NEXT_STEP))
    )

    def least(num_blocks: int) -> int:
        return min(int(other) for other in meeting.exchange("blocks", num_blocks, watch.check))

    executor = load(args, plan, tensors, least)
    meeting.exchange("ready", True, watch.check)
    watch.follow(tensors)
    return Rank(executor, StepChannel(steps))


def compare(descriptions: List[Dict[str, Any]]) -> None:
    """Raises ValueError with the first difference between rank 0 and another."""
    first = descriptions[0]
    for rank, other in enumerate(descriptions):
        for name, value in first.items():
            if other.get(name) != value:
                raise ValueError(
                    f"ranks must not differ: {name} is {value!r} in rank 0, and "
                    f"{other.get(name)!r} in rank {rank}"
                )


def _description(args: EngineArgs, plan: Plan) -> Dict[str, Any]:
    """What has to be the same in all ranks."""
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
