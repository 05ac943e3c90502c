"""Paged decode attention on a GPU, compared with FlashInfer and with reading the same bytes.

    python benchmarks/cuda_attention.py [--json FILE] [--heads 32/8/128 ...] [--cases 8x1024 ...]

bfloat16, blocks of 16 tokens in shuffled order. Each contender is captured in a CUDA graph of
several calls, each on its own cache so that reads miss L2; contenders are timed alternately, and a
figure is the median of all runs, in microseconds per call, launches included. FlashInfer is timed
with and without tensor cores and in the layouts HND and NHD; the table has its best. Ours reads the
engine's layout, heads before slots (HND). "read" is a plain kernel that reads as many bytes, and
the bandwidth that it reaches at 4 GiB is the ceiling.

Outputs are compared with float64 on the buffers that were timed, some sequences of each.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import torch
import triton
import triton.language as tl

import vllm
from vllm import _C, ops
from vllm.layers.attention import AttentionPlanner

BLOCK = 16
HEADS = ["32/8/128", "16/8/128", "40/8/128", "8/1/128", "14/2/64"]
CASES = [
    *[(1, 1024), (1, 4096), (1, 8192), (1, 32768)],
    *[(8, 1024), (8, 4096), (8, 32768)],
    *[(64, 1024), (64, 4096), (64, 32768)],
    *[(256, 1024), (256, 4096), (256, 32768)],
]
ROTATE_BYTES = 512 << 20  # minimum bytes that a graph's calls read: many times L2
MOST_CALLS = 64
TURNS = 9
CLEARED_BYTES_PER_S = 2e11  # of freed memory, by the driver; an H200 took 0.24 s for 90 GB
DEVICE = torch.device("cuda")


class Case(NamedTuple):
    """One row of the table."""

    heads: int
    kv_heads: int
    head_size: int
    batch: int
    context: int

    @property
    def blocks(self) -> int:
        return self.batch * (self.context // BLOCK)

    @property
    def cache_bytes(self) -> int:
        return 2 * self.blocks * BLOCK * self.kv_heads * self.head_size * 2

    @property
    def calls(self) -> int:
        return max(2, min(MOST_CALLS, -(-ROTATE_BYTES // self.cache_bytes)))

    def __str__(self) -> str:
        return f"{self.heads}/{self.kv_heads} d{self.head_size}  {self.batch} x {self.context}"


@triton.jit
def read_words(source, sink, count, size: tl.constexpr):
    """Reads `count` int32 from source; the sum prevents the compiler from removing the loads."""
    total = tl.zeros((size,), tl.int32)
    step = tl.num_programs(0) * size
    for begin in tl.range(tl.program_id(0) * size, count, step, num_stages=4):
        offsets = begin.to(tl.int64) + tl.arange(0, size)
        total += tl.load(source + offsets, mask=offsets < count, other=0)
    tl.store(sink + tl.program_id(0), tl.sum(total, 0))


class Graph:
    """Calls captured one after another."""

    def __init__(self, calls: List[Callable[[], object]]) -> None:
        self.count = len(calls)
        self._calls = calls  # they hold the tensors that the graph reads
        torch.cuda.synchronize()  # the inputs are complete for the other stream, too
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for call in calls[:2]:
                call()
        torch.cuda.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=stream):
            for call in calls:
                call()

    def microseconds(self) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        self._graph.replay()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) * 1e3 / self.count


class Inputs:
    """Caches of each call, as the engine has them, and one table for all."""

    def __init__(self, case: Case) -> None:
        generator = torch.Generator("cuda").manual_seed(0)
        shape = (case.calls, 2, case.blocks, case.kv_heads, BLOCK, case.head_size)
        self.stored = torch.empty(shape, dtype=torch.bfloat16, device=DEVICE)
        for part in self.stored:
            part.normal_(generator=generator)
        self.caches = self.stored.transpose(3, 4)  # [.., blocks, slots, KV heads, head size]
        shape = (case.calls, case.batch, case.heads, case.head_size)
        self.query = torch.randn(shape, generator=generator, device=DEVICE).bfloat16()
        order = torch.randperm(case.blocks, generator=generator, device=DEVICE)
        self.tables = order.to(torch.int32).view(case.batch, -1)
        self.scale = case.head_size**-0.5

    def expected(self, case: Case, call: int, sequence: int) -> torch.Tensor:
        """float64 [heads, head_size]."""
        blocks = self.tables[sequence].long()
        keys, values = (
            cache[blocks].reshape(case.context, case.kv_heads, case.head_size).double()
            for cache in self.caches[call]
        )
        query = self.query[call, sequence].double().view(case.kv_heads, -1, case.head_size)
        weights = torch.einsum("kgd,tkd->kgt", query, keys).mul(self.scale).softmax(-1)
        return torch.einsum("kgt,tkd->kgd", weights, values).reshape(case.heads, case.head_size)


Contender = Tuple[Graph, torch.Tensor]  # and its outputs, [calls, batch, heads, head_size]


def ours(case: Case, inputs: Inputs) -> Contender:
    lens = torch.full((case.batch,), case.context, dtype=torch.int32)
    starts = torch.arange(case.batch + 1, dtype=torch.int32)
    planner = AttentionPlanner(case.heads, case.kv_heads, case.head_size, DEVICE)
    plan = planner.plan(lens, starts)[0]
    plan = plan._replace(items=plan.items.to(DEVICE))
    lens, starts = lens.to(DEVICE), starts.to(DEVICE)
    out = torch.full_like(inputs.query, float("nan"))

    def call(index: int) -> Callable[[], object]:
        keys, values = inputs.caches[index]
        return lambda: ops.paged_attention(
            out[index],
            inputs.query[index],
            keys,
            values,
            inputs.tables,
            lens,
            starts,
            inputs.scale,
            plan=plan,
        )

    return Graph([call(index) for index in range(case.calls)]), out


def flashinfer(case: Case, inputs: Inputs, layout: str, tensor_cores: bool) -> Contender:
    from flashinfer import BatchDecodeWithPagedKVCacheWrapper

    wrapper = BatchDecodeWithPagedKVCacheWrapper(
        torch.empty(256 << 20, dtype=torch.uint8, device=DEVICE),
        layout,
        use_tensor_cores=tensor_cores,
        backend="fa2",
    )
    pages = case.context // BLOCK
    wrapper.plan(
        torch.arange(case.batch + 1, dtype=torch.int32) * pages,
        inputs.tables.flatten(),
        torch.full((case.batch,), BLOCK, dtype=torch.int32),
        case.heads,
        case.kv_heads,
        case.head_size,
        BLOCK,
        q_data_type=torch.bfloat16,
        kv_data_type=torch.bfloat16,
    )
    out = torch.full_like(inputs.query, float("nan"))
    caches = inputs.stored if layout == "HND" else inputs.caches.contiguous()

    def call(index: int) -> Callable[[], object]:
        return lambda: wrapper.run(inputs.query[index], tuple(caches[index]), out=out[index])

    return Graph([call(index) for index in range(case.calls)]), out


def read(case: Case, inputs: Inputs) -> Graph:
    processors = torch.cuda.get_device_properties(DEVICE).multi_processor_count
    sink = torch.empty(8 * processors, dtype=torch.int32, device=DEVICE)

    def call(index: int) -> Callable[[], object]:
        words = inputs.stored[index].view(torch.int32).flatten()
        grid = (min(8 * processors, triton.cdiv(words.numel(), 4096)),)
        return lambda: read_words[grid](words, sink, words.numel(), size=4096)

    return Graph([call(index) for index in range(case.calls)])


def error(case: Case, inputs: Inputs, out: torch.Tensor) -> float:
    """The relative error of some sequences, in the 2-norm; infinite for what was not written."""
    worst = 0.0
    for call in (0, case.calls - 1):
        for sequence in {0, case.batch // 2, case.batch - 1}:
            expected = inputs.expected(case, call, sequence)
            found = out[call, sequence].double()
            ratio = float((found - expected).norm() / expected.norm())
            worst = max(worst, ratio if ratio == ratio else float("inf"))
    return worst


def measure(case: Case, peers: bool) -> Dict[str, object]:
    inputs = Inputs(case)
    contenders: Dict[str, Contender] = {"ours": ours(case, inputs)}
    missing: Dict[str, str] = {}
    for layout in ("NHD", "HND") if peers else ():
        for tensor_cores in (False, True):
            name = f"flashinfer {layout}{' tensor cores' if tensor_cores else ''}"
            try:
                contenders[name] = flashinfer(case, inputs, layout, tensor_cores)
            except (ImportError, RuntimeError, ValueError) as reason:  # a group that it refuses
                missing[name] = str(reason).strip().splitlines()[-1].partition(" at /")[0]
    graphs = {name: graph for name, (graph, _) in contenders.items()}
    graphs["read"] = read(case, inputs)
    times: Dict[str, List[float]] = {name: [] for name in graphs}
    for _ in range(TURNS):
        for name, graph in graphs.items():
            times[name].append(graph.microseconds())
    torch.cuda.synchronize()
    return {
        "case": str(case),
        "cache_bytes": case.cache_bytes,
        "us": {name: round(statistics.median(found), 2) for name, found in times.items()},
        "error": {name: error(case, inputs, out) for name, (_, out) in contenders.items()},
        "missing": missing,
    }


def give_back_memory() -> None:
    """And waits: the driver clears it while other things run, which then take 10 to 20 % longer."""
    reserved = torch.cuda.memory_reserved()
    torch.cuda.empty_cache()
    time.sleep(0.05 + reserved / CLEARED_BYTES_PER_S)


def ceilings() -> Dict[str, float]:
    words = torch.zeros(1 << 30, dtype=torch.int32, device=DEVICE)
    sink = torch.empty(1 << 20, dtype=torch.int32, device=DEVICE)
    best = float("inf")
    for programs in (1024, 2048, 4096):
        graph = Graph(
            [lambda grid=(programs,): read_words[grid](words, sink, 1 << 30, size=4096)] * 2
        )
        best = min(best, *(graph.microseconds() for _ in range(5)))
    empty = Graph([lambda: read_words[(1,)](words, sink, 0, size=4096)] * 200)
    return {
        "read_tb_s": round((4 << 30) / best / 1e6, 3),
        "empty_kernel_us": round(min(empty.microseconds() for _ in range(5)), 2),
    }


def best_peer(row: Dict[str, object]) -> Optional[float]:
    found = [us for name, us in row["us"].items() if name.startswith("flashinfer")]
    return min(found) if found else None


def print_table(rows: List[Dict[str, object]], ceiling: float) -> None:
    print(f"{'case':26} {'read':>8} {'ours':>8} {'peer':>8} {'ratio':>6} {'of read':>8}  error")
    ratios = []
    for row in rows:
        us, peer = row["us"], best_peer(row)
        share = row["cache_bytes"] / us["ours"] / 1e6 / ceiling
        if peer is not None:
            ratios.append(peer / us["ours"])
        print(
            f"{row['case']:26} {us['read']:8.1f} {us['ours']:8.1f} "
            f"{peer if peer is not None else float('nan'):8.1f} "
            f"{ratios[-1] if peer is not None else float('nan'):6.2f} {share:8.1%}  "
            f"{row['error']['ours']:.1e}"
        )
    if ratios:
        print(f"geometric mean {statistics.geometric_mean(ratios):.3f}, least {min(ratios):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--heads", nargs="+", default=HEADS, metavar="HEADS/KV/size")
    cases = [f"{batch}x{context}" for batch, context in CASES]
    parser.add_argument("--cases", nargs="+", default=cases, metavar="BATCHxCONTEXT")
    parser.add_argument("--no-peers", action="store_true")
    args = parser.parse_args()

    limits = ceilings()
    print(limits)
    rows: List[Dict[str, object]] = []
    for heads in args.heads:
        for each in args.cases:
            case = Case(*map(int, heads.split("/")), *map(int, each.split("x")))
            rows.append(measure(case, not args.no_peers))
            print(rows[-1]["case"], rows[-1]["us"], rows[-1]["missing"] or "", flush=True)
            give_back_memory()
            if args.json:
                write(args.json, limits, rows)
    print_table(rows, limits["read_tb_s"])


def write(path: Path, limits: Dict[str, float], rows: List[Dict[str, object]]) -> None:
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda, "vllm": vllm.__version__}
    if "flashinfer" in sys.modules:
        versions["flashinfer"] = sys.modules["flashinfer"].__version__
    record = {
        "commit": vllm.__commit__,
        "machine": {"gpu": torch.cuda.get_device_name(), "python": platform.python_version()},
        "versions": versions,
        "code": sorted({Path(path).parent.name for _, path in _C.loaded_kernels()}),
        "ceilings": limits,
        "rows": rows,
    }
    path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
