"""Microseconds of an all-reduce among the GPUs of one host: ours and NCCL's, alone and with a norm.

    python benchmarks/cuda_all_reduce.py [--json FILE] [--ranks 2] [--widths 5120] [--rows 1 64 …]

bfloat16. A CUDA graph calls a contender once on each of 40 buffers; the figure is the median time
of 41 replays over 40, of the slowest rank. All ranks pass a barrier on the device before a replay.
In "with norm" the sum is added to a residual and normalised: by our fused kernel, by our two
kernels, and by NCCL and our norm. Every contender's result is compared with a sum in float64 first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable, Dict, List

import torch
from conditions import commit, machine

from vllm import ops
from vllm.ops import comm
from vllm.parallel.cuda_group import connect_nccl
from vllm.parallel.peer_memory import open_peer_memory
from vllm.worker.ranks.meeting import Meeting, join_meeting, open_meeting, port_of

BUFFERS, WARM_UPS, REPLAYS = 40, 10, 41
ROWS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048]
EPSILON = 1e-6


class Contenders:
    """The all-reduce implementations, in one rank."""

    def __init__(self, meeting: Meeting, rows: int, width: int) -> None:
        self.rank, self.size = meeting.rank, meeting.size
        self.device = torch.device("cuda", meeting.rank)
        torch.cuda.set_device(self.device)
        self.share = lambda topic, note: meeting.exchange(topic, note, lambda: None)
        self.nccl = connect_nccl(
            meeting.part("tensors"),
            meeting.rank,
            meeting.size,
            device=self.device,
            timeout=timedelta(seconds=60),
            loopback=True,
        )
        memory = open_peer_memory(self.device, self.rank, self.size, rows, 2 * width, self.share)
        if memory is None:
            raise SystemExit("the GPUs do not reach each other's memory")
        self.memory = memory
        self.num_timed = 0
        self.peers = memory.group

    def ways(self, weight: torch.Tensor) -> Dict[str, Callable[..., None]]:
        """Called with an addend and a residual, both overwritten."""

        def ours(x: torch.Tensor, _: torch.Tensor) -> None:
            comm.all_reduce(x, x, self.peers)

        def two_shots(x: torch.Tensor, _: torch.Tensor) -> None:
            comm.all_reduce(x, x, self.peers, two_shots=True)

        def nccl(x: torch.Tensor, _: torch.Tensor) -> None:
            self.nccl.all_reduce(x)

        def ours_norm(x: torch.Tensor, residual: torch.Tensor) -> None:
            comm.all_reduce_add_rms_norm(x, residual, weight, EPSILON, self.peers)

        def two_shots_norm(x: torch.Tensor, residual: torch.Tensor) -> None:
            comm.all_reduce_add_rms_norm(x, residual, weight, EPSILON, self.peers, two_shots=True)

        def apart_norm(x: torch.Tensor, residual: torch.Tensor) -> None:
            comm.all_reduce(x, x, self.peers)
            ops.fused_add_rms_norm(x, residual, weight, EPSILON)

        def nccl_norm(x: torch.Tensor, residual: torch.Tensor) -> None:
            self.nccl.all_reduce(x)
            ops.fused_add_rms_norm(x, residual, weight, EPSILON)

        ways = {"ours": ours, "two shots": two_shots, "NCCL": nccl}
        norms = {
            "ours": ours_norm,
            "two shots": two_shots_norm,
            "ours apart": apart_norm,
            "NCCL apart": nccl_norm,
        }
        return {**ways, **{f"{name}, with norm": way for name, way in norms.items()}}

    def measure(self, rows: int, width: int) -> Dict[str, float]:
        generator = torch.Generator(self.device).manual_seed(1)

        def random(*shape: int) -> torch.Tensor:
            numbers = torch.randn(*shape, generator=generator, device=self.device)
            return numbers.bfloat16()

        parts, residual, weight = random(self.size, rows, width), random(rows, width), random(width)
        total = parts.double().sum(0)
        added = total + residual.double()
        normed = added / (added.pow(2).mean(-1, keepdim=True) + EPSILON).sqrt() * weight.double()
        inputs = [parts[self.rank].clone() for _ in range(BUFFERS)]
        residuals = [residual.clone() for _ in range(BUFFERS)]
        found = {}
        for name, way in self.ways(weight).items():

            def restore() -> None:
                for each, kept in zip(inputs, residuals):
                    each.copy_(parts[self.rank])
                    kept.copy_(residual)

            restore()
            way(inputs[0], residuals[0])
            expected = normed if "norm" in name else total
            error = (inputs[0].double() - expected).norm() / expected.norm()
            if not error < 6e-3:
                raise SystemExit(f"{name}, {rows} rows: off by {error:.1e}")
            found[name] = self._time(way, inputs, residuals, restore)
        return found

    def _time(
        self,
        way: Callable[..., None],
        inputs: List[torch.Tensor],
        residuals: List[torch.Tensor],
        restore: Callable[[], None],
    ) -> float:
        graph, barrier = torch.cuda.CUDAGraph(), torch.ones(1, 64, device=self.device)
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            graph.capture_begin(capture_error_mode="thread_local")
            for each, kept in zip(inputs, residuals):
                way(each, kept)
            graph.capture_end()
        times = []
        for _ in range(WARM_UPS + REPLAYS):
            restore()
            events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            self.nccl.all_reduce(barrier)
            events[0].record()
            graph.replay()
            events[1].record()
            torch.cuda.synchronize()
            times.append(1e3 * events[0].elapsed_time(events[1]) / BUFFERS)
        mine = statistics.median(times[WARM_UPS:])
        slowest: float = max(self.share(f"time {self.num_timed}", mine))
        self.num_timed += 1
        return round(slowest, 2)


def run_rank(what: Dict[str, Any]) -> None:
    meeting = join_meeting(what["port"], what["rank"], what["ranks"])
    contenders = Contenders(meeting, max(what["rows"]), max(what["widths"]))
    rows = []
    for width in what["widths"]:
        for count in what["rows"]:
            row = {"rows": count, "width": width, "us": contenders.measure(count, width)}
            rows.append(row)
            if meeting.rank == 0:
                print(row, file=sys.stderr, flush=True)
    meeting.exchange("done", True, lambda: None)
    contenders.memory.close()
    contenders.nccl.close()
    if meeting.rank == 0:
        print(json.dumps(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description="Microseconds of an all-reduce of few rows")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--widths", type=int, nargs="+", default=[5120])
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--rank", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank:
        run_rank(json.loads(arguments.rank))
        return
    meeting = open_meeting(arguments.ranks)
    what = {"port": port_of(meeting), "ranks": arguments.ranks}
    what.update(rows=arguments.rows, widths=arguments.widths)
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, "--rank", json.dumps({**what, "rank": rank})],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(arguments.ranks)
    ]
    try:
        outputs = [rank.communicate()[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    result = {
        "commit": commit(),
        "machine": machine(),
        "ranks": arguments.ranks,
        "nccl": ".".join(map(str, torch.cuda.nccl.version())),
        "rows": json.loads(outputs[0].splitlines()[-1]),
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
