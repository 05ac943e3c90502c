"""Rotation, cache write and attention of few sequences on a GPU: in one kernel, and in two.

    python benchmarks/cuda_few_sequences.py [--json FILE] [--sequences 1 4 16 32] [--context 290]

The layers of Qwen3-0.6B in bfloat16, each with weights and a cache of its own, are captured in a
CUDA graph: without attention, with two kernels, and with one on clusters of each size that the GPU
has room for. The graphs are replayed alternately; figures are medians, in microseconds a layer. The
one kernel must store the keys and values that the two store, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Callable, Dict, List, Optional

import torch
from conditions import commit
from cuda_timing import machine

from vllm import ops

HIDDEN, WIDTH, HEADS, KV_HEADS, HEAD_SIZE, LAYERS = 1024, 3072, 16, 8, 128, 28
BLOCK = 16
EPSILON = 1e-6
TURNS, REPLAYS = 9, 10
DEVICE = torch.device("cuda")


class Layer:
    """The weights and the cache of a layer."""

    def __init__(self, blocks: int, generator: torch.Generator) -> None:
        def normal(*shape: int) -> torch.Tensor:
            drawn = torch.randn(shape, generator=generator, device=DEVICE, dtype=torch.bfloat16)
            return drawn * shape[-1] ** -0.5 if len(shape) == 2 else drawn

        self.qkv = normal((HEADS + 2 * KV_HEADS) * HEAD_SIZE, HIDDEN)
        self.o = normal(HIDDEN, HEADS * HEAD_SIZE)
        self.gate_up, self.down = normal(2 * WIDTH, HIDDEN), normal(HIDDEN, WIDTH)
        self.norms = normal(HIDDEN), normal(HIDDEN)
        self.head_norms = normal(HEAD_SIZE), normal(HEAD_SIZE)
        # Heads before slots, as the engine has it.
        self.cache = tuple(
            normal(blocks, KV_HEADS, BLOCK, HEAD_SIZE).transpose(1, 2) for _ in range(2)
        )


class Step:
    """A decode step of sequences with as many tokens each, and what it computes on.

    Products are those of few rows, for any number of sequences, so that all kernels of a layer are
    launched early.
    """

    def __init__(self, sequences: int, context: int) -> None:
        generator = torch.Generator(DEVICE).manual_seed(0)
        width = -(-context // BLOCK)
        self.layers = [Layer(sequences * width, generator) for _ in range(LAYERS)]
        tables = torch.randperm(sequences * width, generator=torch.Generator().manual_seed(0))
        self.host = (
            torch.full((sequences,), context, dtype=torch.int32),
            torch.arange(sequences + 1, dtype=torch.int32),
        )
        self.tables = tables.int().view(sequences, width).to(DEVICE)
        self.lens, self.starts = (each.to(DEVICE) for each in self.host)
        self.positions = torch.full((sequences,), context - 1, device=DEVICE)
        self.slots = self.tables[:, -1].long() * BLOCK + (context - 1) % BLOCK
        angles = torch.outer(torch.arange(context), 1e6 ** (-torch.arange(0, HEAD_SIZE, 2) / 128))
        self.angles = torch.cat((angles.cos(), angles.sin()), -1).bfloat16().to(DEVICE)
        self.input = torch.randn(sequences, HIDDEN, device=DEVICE).bfloat16()
        self.x = self.input.clone()
        self.heads = self.x.new_empty(sequences, HEADS + 2 * KV_HEADS, HEAD_SIZE)
        self.out = self.x.new_zeros(sequences, HEADS, HEAD_SIZE)
        self.act = self.x.new_empty(sequences, WIDTH)
        self.blocks = ops.attention_blocks(HEAD_SIZE, 0)
        self.sizes = ops.attention_plan_sizes(
            sequences, sequences, HEADS, KV_HEADS, HEAD_SIZE, self.blocks
        )
        self.arrivals = torch.zeros(self.sizes.arrivals, dtype=torch.int32, device=DEVICE)
        self.partials = torch.empty(self.sizes.partials, device=DEVICE)

    def plan(self, cluster: int) -> ops.AttentionPlan:
        """As for a graph: of all lists."""
        items = torch.zeros(self.sizes.items, self.sizes.item_ints, dtype=torch.int32)
        ops.plan_attention(items, *self.host, HEADS, KV_HEADS, 0, self.blocks, cluster=cluster)
        lists = self.blocks // max(cluster, 1)
        return ops.AttentionPlan(
            items.to(DEVICE), self.arrivals, self.partials, lists, len(items), 0, True, cluster
        )

    def attend(self, layer: Layer, plan: ops.AttentionPlan) -> None:
        query, key, value = torch.split(self.heads, [HEADS, KV_HEADS, KV_HEADS], dim=1)
        ops.rotary_and_attention(
            self.out,
            self.positions,
            query,
            key,
            value,
            self.angles,
            *layer.cache,
            self.slots,
            self.tables,
            self.lens,
            self.starts,
            HEAD_SIZE**-0.5,
            query_weight=layer.head_norms[0],
            key_weight=layer.head_norms[1],
            epsilon=EPSILON,
            plan=plan,
        )

    def run(self, plan: Optional[ops.AttentionPlan]) -> None:
        rows = len(self.x)
        self.x.copy_(self.input)
        for layer in self.layers:
            for part in range(0, rows, ops.FEW_ROWS):
                here = slice(part, part + ops.FEW_ROWS)
                ops.few_rows_linear(
                    self.heads.view(rows, -1)[here],
                    self.x[here],
                    layer.qkv,
                    norm_weight=layer.norms[0],
                    epsilon=EPSILON,
                )
            if plan is not None:
                self.attend(layer, plan)
            for part in range(0, rows, ops.FEW_ROWS):
                x, act = (each[part : part + ops.FEW_ROWS] for each in (self.x, self.act))
                out = self.out.view(rows, -1)[part : part + ops.FEW_ROWS]
                ops.few_rows_linear(x, out, layer.o, residual=x)
                ops.few_rows_linear(
                    act, x, layer.gate_up, norm_weight=layer.norms[1], epsilon=EPSILON, gated=True
                )
                ops.few_rows_linear(x, act, layer.down, residual=x)

    def check(self, plans: Dict[str, Optional[ops.AttentionPlan]]) -> float:
        """The largest relative difference of attention from that of two kernels; RuntimeError if
        other keys or values are stored."""
        heads = torch.randn_like(self.heads)
        found = {}
        for name, plan in plans.items():
            if plan is not None:
                self.heads.copy_(heads)
                self.attend(self.layers[0], plan)
                found[name] = [self.out.clone(), *(each.clone() for each in self.layers[0].cache)]
        out, *stored = found["two kernels"]
        worst = 0.0
        for other, *caches in found.values():
            if not all(map(torch.equal, caches, stored)):
                raise RuntimeError("other keys or values")
            worst = max(worst, float((other.double() - out.double()).norm() / out.double().norm()))
        return worst


def captured(run: Callable[[], None]) -> torch.cuda.CUDAGraph:
    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph


def microseconds(graph: torch.cuda.CUDAGraph) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in "be")
    begin.record()
    for _ in range(REPLAYS):
        graph.replay()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) * 1e3 / REPLAYS / LAYERS


def measure(sequences: int, context: int) -> Dict[str, object]:
    step = Step(sequences, context)
    plans: Dict[str, Optional[ops.AttentionPlan]] = {"without": None, "two kernels": step.plan(0)}
    for cluster in (1, 2, 4):
        if sequences * KV_HEADS * cluster <= step.blocks:
            plans[f"clusters of {cluster}"] = step.plan(cluster)
    difference = step.check(plans)
    graphs = {name: captured(lambda plan=plan: step.run(plan)) for name, plan in plans.items()}
    times: Dict[str, List[float]] = {name: [] for name in graphs}
    for _ in range(TURNS):
        for name, graph in graphs.items():
            times[name].append(microseconds(graph))
    chosen = ops.attention_cluster(sequences, HEADS, KV_HEADS, HEAD_SIZE, step.blocks, 0)
    return {
        "sequences": sequences,
        "context": context,
        "chosen": f"clusters of {chosen}" if chosen else "two kernels",
        "us_a_layer": {name: round(statistics.median(each), 2) for name, each in times.items()},
        "difference": float(f"{difference:.2g}"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Attention of few sequences on a GPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    parser.add_argument("--sequences", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--context", type=int, default=290)
    arguments = parser.parse_args()
    records = []
    for sequences in arguments.sequences:
        records.append(measure(sequences, arguments.context))
        print(records[-1], flush=True)
        torch.cuda.empty_cache()
        if arguments.json:
            result = {"commit": commit(), "machine": machine(), "records": records}
            arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
