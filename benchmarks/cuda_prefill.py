"""Paged prefill attention on a GPU, compared with FlashAttention 2 and 3, cuDNN and FlashInfer.

    python benchmarks/cuda_prefill.py [--json FILE] [--heads 32/8/128 ...] [--cases 1x8192 ...]

A case is sequences x new tokens [+ tokens before them] [/ wWINDOW] [/ cCAP], or `mix`. bfloat16,
causal, blocks of 16 tokens in shuffled order. Contenders are timed alternately, each captured in a
CUDA graph; a figure is the median of all runs, launches included, as TFLOP/s over the unmasked
pairs of query and key. torch's peers and "fa3 contiguous" read contiguous keys; the others read
pages. FlashAttention 3 is vLLM's library if $FA3_LIB is its path (_vllm_fa3_C.abi3.so); FlashInfer
is used if it is installed.

--code selects older code of the build instead of the newest: sm_90 for the kernels without wgmma,
compute_90 for PTX, which the driver compiles.

Outputs are compared with float64 on the buffers that were timed, some query tokens of each case.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import tempfile
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Sequence, Tuple

import torch
from cuda_attention import Graph, give_back_memory
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

import vllm
from vllm import _C, ops
from vllm.layers.attention import AttentionPlanner

BLOCK = 16
HEADS = ["32/8/128", "16/8/128", "40/8/128", "64/8/128", "32/8/64", "14/2/64", "8/4/256"]
CASES = [
    *["1x512", "1x2048", "1x8192", "1x16384", "1x65536", "8x1024", "32x512", "16x8192"],
    *["1x256+2048", "1x2048+2048", "1x8192+2048", "1x256+14336", "1x2048+14336", "1x8192+14336"],
    *["1x256+100000", "1x2048+100000", "1x8192+100000", "mix", "1x16384/w4096", "1x8192/c50"],
    *["1x1+32767", "1x4+32764", "1x16+32752", "1x64+32704"],  # the first is decoding, to compare
]
MIX = [(n, 0) for n in (1024, 2048, 4096, 8192)] + [(1, 256 * i) for i in range(4, 64)]
GRAPH_US = 3000  # minimum time of a graph
TURNS = 5
DEVICE = torch.device("cuda")


class Case(NamedTuple):
    """One row of the table."""

    heads: int
    kv_heads: int
    head_size: int
    name: str
    sequences: List[Tuple[int, int]]  # new tokens, and those before them
    window: int = 0
    soft_cap: float = 0.0
    dtype: torch.dtype = torch.bfloat16

    @property
    def flops(self) -> int:
        pairs = 0
        for new, before in self.sequences:
            seen = range(before + 1, before + new + 1)
            pairs += sum(min(n, self.window) for n in seen) if self.window else sum(seen)
        return 4 * self.heads * self.head_size * pairs

    @property
    def uniform(self) -> bool:
        return len(set(self.sequences)) == 1

    def __str__(self) -> str:
        return f"{self.heads}/{self.kv_heads} d{self.head_size} {self.name}"


def parse_case(heads: str, text: str) -> Case:
    lengths, *options = text.split("/")
    if lengths == "mix":
        sequences = MIX
    else:
        count, _, tokens = lengths.partition("x")
        new, _, before = tokens.partition("+")
        sequences = [(int(new), int(before or 0))] * int(count)
    found = {option[0]: float(option[1:]) for option in options}
    window, soft_cap = int(found.get("w", 0)), found.get("c", 0.0)
    return Case(*map(int, heads.split("/")), text, sequences, window, soft_cap)


class Inputs:
    """Queries, and keys and values in pages as the engine has them, and one after another."""

    def __init__(self, case: Case) -> None:
        generator = torch.Generator("cuda").manual_seed(0)
        self.new = [new for new, _ in case.sequences]
        self.total = [new + before for new, before in case.sequences]
        blocks = [-(-n // BLOCK) for n in self.total]

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator, device=DEVICE, dtype=case.dtype)

        self.query = draw(sum(self.new), case.heads, case.head_size)
        self.stored = draw(2, sum(blocks), case.kv_heads, BLOCK, case.head_size)
        self.caches = self.stored.transpose(2, 3)  # [2, blocks, slots, KV heads, head size]
        order = torch.randperm(sum(blocks), generator=generator, device=DEVICE).to(torch.int32)
        self.tables = torch.zeros(len(blocks), max(blocks), dtype=torch.int32, device=DEVICE)
        for row, part in zip(self.tables, order.split(blocks)):
            row[: len(part)] = part
        self.scale = case.head_size**-0.5
        self.used = torch.tensor(self.total, dtype=torch.int32)
        self.starts = torch.tensor([0, *self.new]).cumsum(0).to(torch.int32)

    def keys_and_values(self, sequence: int) -> torch.Tensor:
        """[2, tokens, KV heads, head size]."""
        total = self.total[sequence]
        blocks = self.tables[sequence, : -(-total // BLOCK)].long()
        return self.caches[:, blocks].flatten(1, 2)[:, :total]

    def contiguous(self) -> torch.Tensor:
        return torch.cat([self.keys_and_values(i) for i in range(len(self.total))], dim=1)


Call = Callable[[], torch.Tensor]  # [tokens, heads, head size]


def ours(case: Case, inputs: Inputs) -> Call:
    planner = AttentionPlanner(
        case.heads, case.kv_heads, case.head_size, DEVICE, windows=(case.window,)
    )
    plan = planner.plan(inputs.used, inputs.starts)[case.window]
    plan = plan._replace(items=plan.items.to(DEVICE))
    lens, starts = inputs.used.to(DEVICE), inputs.starts.to(DEVICE)
    out = torch.full_like(inputs.query, math.nan)

    def call() -> torch.Tensor:
        ops.paged_attention(
            *(out, inputs.query, *inputs.caches, inputs.tables, lens, starts, inputs.scale),
            sliding_window=case.window,
            soft_cap=case.soft_cap,
            plan=plan,
        )
        return out

    return call


def fa3(case: Case, inputs: Inputs, paged: bool) -> Call:
    torch.ops.load_library(os.environ["FA3_LIB"])
    keys, values = inputs.caches.contiguous() if paged else inputs.contiguous()
    lens = inputs.used.to(DEVICE)
    starts = inputs.starts.to(DEVICE)
    key_starts = torch.cat([lens.new_zeros(1), lens.cumsum(0)]).to(torch.int32)
    out = torch.full_like(inputs.query, math.nan)
    window = case.window - 1 if case.window else -1

    def call() -> torch.Tensor:
        torch.ops._vllm_fa3_C.fwd(
            *(inputs.query, keys, values, None, None, None, out, starts),
            *((None, None, None, lens) if paged else (key_starts, None, None, None)),
            *(max(inputs.new), max(inputs.total), inputs.tables if paged else None),
            *(None,) * 8,
            *(inputs.scale, True, window, 0 if case.window else -1, case.soft_cap, True, None, 0),
            *(None, 0, None, 1, 0, None),
        )
        return out

    return call


def sdpa(case: Case, inputs: Inputs, backend: SDPBackend) -> Call:
    """torch's, over equal sequences as a batch."""
    if not case.uniform or case.window or case.soft_cap:
        raise NotImplementedError("equal lengths, no window and no cap")
    batch = len(case.sequences)
    new, before = case.sequences[0]
    query = inputs.query.view(batch, new, case.heads, case.head_size).transpose(1, 2)
    keys, values = (
        inputs.contiguous().view(2, batch, new + before, case.kv_heads, -1).transpose(2, 3)
    )
    mask = causal_lower_right(new, new + before) if before else None
    if before and backend == SDPBackend.CUDNN_ATTENTION:
        raise NotImplementedError("no tokens before the queries")

    def call() -> torch.Tensor:
        with sdpa_kernel(backend):
            out = scaled_dot_product_attention(
                query, keys, values, attn_mask=mask, is_causal=mask is None, enable_gqa=True
            )
        return out.transpose(1, 2).flatten(0, 1)

    return call


def flashinfer(case: Case, inputs: Inputs, backend: str) -> Call:
    from flashinfer import BatchPrefillWithPagedKVCacheWrapper

    work = torch.empty(512 << 20, dtype=torch.uint8, device=DEVICE)
    wrapper = BatchPrefillWithPagedKVCacheWrapper(work, "NHD", backend=backend)
    blocks = [-(-n // BLOCK) for n in inputs.total]
    wrapper.plan(
        inputs.starts,
        torch.tensor([0, *blocks]).cumsum(0).to(torch.int32),
        torch.cat([row[:n] for row, n in zip(inputs.tables, blocks)]),
        torch.tensor([(n - 1) % BLOCK + 1 for n in inputs.total], dtype=torch.int32),
        *(case.heads, case.kv_heads, case.head_size, BLOCK),
        causal=True,
        window_left=case.window - 1 if case.window else -1,
        logits_soft_cap=case.soft_cap or None,
        q_data_type=case.dtype,
    )
    caches = tuple(inputs.caches.contiguous())
    out = torch.full_like(inputs.query, math.nan)
    return lambda: wrapper.run(inputs.query, caches, out=out)


PEERS: Dict[str, Callable[[Case, Inputs], Call]] = {
    "fa3 paged": lambda case, inputs: fa3(case, inputs, paged=True),
    "fa3 contiguous": lambda case, inputs: fa3(case, inputs, paged=False),
    "cudnn": lambda case, inputs: sdpa(case, inputs, SDPBackend.CUDNN_ATTENTION),
    "torch fa2": lambda case, inputs: sdpa(case, inputs, SDPBackend.FLASH_ATTENTION),
    "flashinfer fa2": lambda case, inputs: flashinfer(case, inputs, "fa2"),
    "flashinfer fa3": lambda case, inputs: flashinfer(case, inputs, "fa3"),
}


def error(case: Case, inputs: Inputs, out: torch.Tensor) -> float:
    """The largest relative error of a query token, in the 2-norm; infinite for NaN."""
    generator = torch.Generator().manual_seed(1)
    worst = 0.0
    for sequence in {0, len(case.sequences) // 2, len(case.sequences) - 1}:
        new, before = case.sequences[sequence]
        keys, values = inputs.keys_and_values(sequence)
        picked = {0, new - 1, *torch.randint(new, (4,), generator=generator).tolist()}
        for token in picked:
            row = int(inputs.starts[sequence]) + token
            last = before + token + 1
            first = max(0, last - case.window) if case.window else 0
            query = inputs.query[row].double().view(case.kv_heads, -1, case.head_size)
            scores = torch.einsum("kgd,tkd->kgt", query, keys[first:last].double()) * inputs.scale
            if case.soft_cap:
                scores = case.soft_cap * torch.tanh(scores / case.soft_cap)
            weights = scores.softmax(-1)
            expected = torch.einsum("kgt,tkd->kgd", weights, values[first:last].double())
            difference = out[row].double().view_as(expected) - expected
            ratio = float((difference.norm() / expected.norm()).cpu())
            worst = max(worst, ratio if ratio == ratio else math.inf)
    return worst


def captured(call: Call) -> Graph:
    """A graph of as many calls as take GRAPH_US."""
    call()
    once = Graph([call])
    once.microseconds()
    return Graph([call] * max(1, math.ceil(GRAPH_US / once.microseconds())))


def measure(case: Case, peers: Sequence[str]) -> Dict[str, object]:
    inputs = Inputs(case)
    calls: Dict[str, Call] = {"ours": ours(case, inputs)}
    missing: Dict[str, str] = {}
    for name in peers:
        try:
            calls[name] = PEERS[name](case, inputs)
            calls[name]()
        except (ImportError, KeyError, NotImplementedError, RuntimeError, ValueError) as reason:
            calls.pop(name, None)
            missing[name] = (str(reason).strip().splitlines() or [type(reason).__name__])[-1][:120]
    graphs = {name: captured(call) for name, call in calls.items()}
    times: Dict[str, List[float]] = {name: [] for name in graphs}
    for _ in range(TURNS):
        for name, graph in graphs.items():
            times[name].append(graph.microseconds())
    us = {name: statistics.median(found) for name, found in times.items()}
    return {
        "case": str(case),
        "us": {name: round(each, 2) for name, each in us.items()},
        "tflops": {name: round(case.flops / each / 1e6, 1) for name, each in us.items()},
        "error": {name: error(case, inputs, call()) for name, call in calls.items()},
        "missing": missing,
    }


def print_table(rows: List[Dict[str, object]]) -> None:
    names = ["ours", *(name for name in PEERS if any(name in row["us"] for row in rows))]
    print(f"{'TFLOP/s':32}", *(f"{name:>15}" for name in names), " error")
    for row in rows:
        found = (row["tflops"].get(name) for name in names)
        cells = (f"{each:15.1f}" if each is not None else f"{'-':>15}" for each in found)
        print(f"{row['case']:32}", *cells, f" {row['error']['ours']:.1e}")
    for name in names[1:]:
        ratios = [row["us"][name] / row["us"]["ours"] for row in rows if name in row["us"]]
        mean = statistics.geometric_mean(ratios)
        print(f"ours beside {name}: {mean:.3f} in the geometric mean, least {min(ratios):.3f}")


def write(path: Path, rows: List[Dict[str, object]]) -> None:
    record = {
        "commit": vllm.__commit__,
        "machine": {"gpu": torch.cuda.get_device_name(), "python": platform.python_version()},
        "versions": {"torch": torch.__version__, "vllm": vllm.__version__},
        "code": sorted({Path(path).parent.name for _, path in _C.loaded_kernels()}),
        "rows": rows,
    }
    path.write_text(json.dumps(record, indent=1) + "\n")


def use_code(arch: str) -> None:
    """Restricts the build to the code in the folder `arch`, such as sm_90 or compute_90."""
    folder = Path(_C.code_folder()) / arch
    if not folder.is_dir():
        names = sorted(each.name for each in folder.parent.iterdir())
        raise SystemExit(f"this build has no code for {arch}; it has {', '.join(names)}")
    chosen = Path(tempfile.mkdtemp())
    (chosen / arch).symlink_to(folder)
    os.environ["VLLM_KERNEL_DIR"] = str(chosen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--heads", nargs="+", default=HEADS, metavar="HEADS/KV/size")
    parser.add_argument("--cases", nargs="+", default=CASES, metavar="CASE")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--code", metavar="ARCH")
    args = parser.parse_args()
    if args.code:
        use_code(args.code)
    rows: List[Dict[str, object]] = []
    for heads in args.heads:
        for text in args.cases:
            case = parse_case(heads, text)
            rows.append(measure(case, args.peers))
            print(rows[-1]["case"], rows[-1]["tflops"], rows[-1]["missing"] or "", flush=True)
            give_back_memory()
            if args.json:
                write(args.json, rows)
    print_table(rows)


if __name__ == "__main__":
    main()
