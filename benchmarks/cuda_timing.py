"""Timing for GPU benchmarks: CUDA graphs, rotated buffers, medians, alternating runs.

A contender's graph calls it once on each of many sets of buffers, which together exceed the L2
cache; the contenders of a row run alternately on the same sets. Afterwards each runs once more on
restored sets whose outputs are filled with NaN, and its results are compared with float64.
"""

from __future__ import annotations

import platform
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

import torch
import triton

from vllm import _C

Tensors = Dict[str, torch.Tensor]
Call = Callable[
    [Tensors], Tuple[torch.Tensor, ...]
]  # a set of buffers -> the tensors with the results

ROTATED_BYTES = 320 << 20  # several times the L2 of any GPU so far
MOST_SETS = 256
FEWEST_LAUNCHES = 8
ROUNDS = 21
TOLERANCE = 6e-3  # relative, of the norm: bfloat16 rounds to 2e-3


class WrongResult(Exception):
    """A contender's result is wrong."""


@dataclass
class Sets:
    """Sets of buffers that an op is timed on."""

    tensors: List[Tensors]
    written: Sequence[str]  # that keep their input's place: restored before a check
    outputs: Sequence[str]  # full of NaN before a check
    originals: List[Tensors] = field(init=False)

    def __post_init__(self) -> None:
        self.originals = [{n: each[n].clone() for n in self.written} for each in self.tensors]

    def restore(self) -> None:
        for each, original in zip(self.tensors, self.originals):
            for name in self.written:
                each[name].copy_(original[name])
        outputs = {id(each[name]): each[name] for each in self.tensors for name in self.outputs}
        for output in outputs.values():  # sets may share one
            output.fill_(float("nan"))


def number_of_sets(bytes_moved: int) -> int:
    return max(2, min(MOST_SETS, -(-ROTATED_BYTES // bytes_moved)))


class Replay:
    """A contender's calls on all sets, as a graph."""

    def __init__(self, call: Call, sets: Sets) -> None:
        self._sets = sets
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for each in sets.tensors[:2]:  # compiles, loads, allocates
                call(each)
        torch.cuda.synchronize()
        rounds = max(1, FEWEST_LAUNCHES // len(sets.tensors))
        self.launches = rounds * len(sets.tensors)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            for _ in range(rounds):
                self._results = [call(each) for each in sets.tensors]
        # In place a graph that calls more than once per set would rotate twice: check one call.
        self._call = call if rounds > 1 else None

    def microseconds(self) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in "be")
        begin.record()
        self._graph.replay()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) * 1e3 / self.launches

    def check(self, reference: Call, find: Callable[[Tensors, Any], Any]) -> float:
        """The largest relative error of any result; WrongResult where that is too much.

        find: the results of a call on a set, from that set and what the call returned.
        """
        self._sets.restore()
        worst = 0.0
        picked = sorted({0, len(self._sets.tensors) // 2, len(self._sets.tensors) - 1})
        expected = [reference(self._sets.tensors[i]) for i in picked]
        if self._call is None:
            self._graph.replay()
            found = [self._results[i] for i in picked]
        else:
            found = [self._call(self._sets.tensors[i]) for i in picked]
        for index, returned, wanted in zip(picked, found, expected):
            results = find(self._sets.tensors[index], returned)
            for result, right in zip(results, wanted, strict=True):
                error = ((result.double() - right).norm() / right.norm()).item()
                if not error <= TOLERANCE:  # NaN too
                    raise WrongResult(f"relative error {error:.3g}")
                worst = max(worst, error)
        return worst


def take_turns(replays: Dict[str, Replay]) -> Dict[str, float]:
    """The median microseconds of one call of each."""
    times: Dict[str, List[float]] = {name: [] for name in replays}
    for replay in replays.values():
        replay.microseconds()
    for _ in range(ROUNDS):
        for name, replay in replays.items():
            times[name].append(replay.microseconds())
    return {name: statistics.median(each) for name, each in times.items()}


@triton.jit
def _nothing():  # type: ignore[no-untyped-def]
    pass


def ceilings() -> Dict[str, float]:
    """GB/s of a large copy, read and written bytes counted, and microseconds of an empty kernel."""
    size = 1 << 30
    pairs = [{"from": torch.randn(size // 4, device="cuda")} for _ in range(2)]
    for each in pairs:
        each["to"] = torch.empty_like(each["from"])
    # In a graph torch's copy is the driver's, which is not always the fastest: a negation moves as
    # much.
    copy = Replay(lambda each: (each["to"].copy_(each["from"]),), Sets(pairs, [], ["to"]))
    negated = Replay(
        lambda each: (torch.neg(each["from"], out=each["to"]),), Sets(pairs, [], ["to"])
    )
    empty = Replay(lambda each: (_nothing[(1,)](), ())[1], Sets([{}] * MOST_SETS, [], []))
    taken = take_turns({"copy": copy, "negated": negated, "empty": empty})
    fastest = min(taken["copy"], taken["negated"])
    return {
        "copy_gb_per_s": round(2 * size / fastest / 1e3, 1),
        "empty_kernel_us": round(taken["empty"], 3),
    }


def machine() -> Dict[str, Any]:
    return {
        "gpu": torch.cuda.get_device_name(0),
        "driver_cuda": _C.driver_version(),
        "kernels": ["/".join(Path(path).parts[-3:]) for _, path in _C.loaded_kernels()],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": triton.__version__,
    }
