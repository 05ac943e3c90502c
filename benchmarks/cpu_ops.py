"""The CPU ops compared with torch's, with the same number of threads.

    python benchmarks/cpu_ops.py [--json FILE]

Norms, activation and rotary embedding: GB/s of the bytes that an op must read and write, counted
once. torch's code is the shortest eager code for the same result: `torch.nn.functional.rms_norm`,
`silu(x) * y`, and the usual split-and-concatenate rotation. Attention: GFLOP/s of the unmasked
scores and sums, and GB/s of keys and values, compared with `scaled_dot_product_attention` on
contiguous copies of the cache; the time to gather these copies is given separately.

Both are timed alternately; a figure is the best of all runs, because other load only adds time.
VLLM_CPU_THREADS sets the threads of both. With one thread, its CPU time is measured, otherwise
wall-clock time. torch allocates its results: malloc is configured to keep freed memory, so that
torch does not pay for page faults in each call.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence

import torch
from conditions import commit_of_tree, processors
from torch.nn.functional import rms_norm, scaled_dot_product_attention, silu

from vllm import _C, ops

Call = Callable[[], object]

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
ROWS = [(1, 4096), (64, 4096), (4096, 4096)]  # a token, a decoding batch, a prefill
HEADS, KV_HEADS, HEAD_SIZE = 32, 8, 128
BLOCK_SIZE = 16

SECONDS = 0.5  # minimum time of all runs of a pair
TURN = 2e-4  # minimum seconds of a run: shorter calls are repeated

clock = time.thread_time if _C.cpu_threads() == 1 else time.perf_counter


@dataclass
class Record:
    """One op on one case; its bytes and operations are counted once."""

    op: str
    dtype: str
    case: str
    ours_us: float
    torch_us: float
    bytes: int
    flops: int = 0
    gather_us: Optional[float] = None

    def row(self) -> str:
        rate = f"{self.bytes / self.ours_us / 1e3:8.1f} GB/s"
        if self.flops:
            rate += f" {self.flops / self.ours_us / 1e3:8.1f} GFLOP/s"
        return (
            f"{self.op:20} {self.dtype:9} {self.case:24} {self.ours_us:10.1f} us"
            f" {self.torch_us:10.1f} us {self.torch_us / self.ours_us:6.2f}x {rate}"
        )


def best(*calls: Call) -> List[float]:
    """Microseconds of each call: the best of runs that alternate between them."""

    def seconds(call: Call, times: int) -> float:
        start = clock()
        for _ in range(times):
            call()
        return (clock() - start) / times

    for call in calls:
        call()
    times = [max(1, int(TURN / seconds(call, 1))) for call in calls]
    least = [float("inf")] * len(calls)
    end = time.perf_counter() + SECONDS
    turns = 0
    while turns < 5 or time.perf_counter() < end:
        for i, call in enumerate(calls):
            least[i] = min(least[i], seconds(call, times[i]) * 1e6)
        turns += 1
    return least


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    low, high = x.chunk(2, dim=-1)
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1)


def memory_bound(dtype: torch.dtype, rows: int, width: int) -> List[Record]:
    x, residual, weight = (torch.randn(*s).to(dtype) for s in ((rows, width),) * 2 + ((width,),))
    gated, out = torch.randn(rows, 2 * width).to(dtype), torch.empty(rows, width, dtype=dtype)
    query = torch.randn(rows, HEADS, HEAD_SIZE).to(dtype)
    key = torch.randn(rows, KV_HEADS, HEAD_SIZE).to(dtype)
    cache, positions = torch.randn(8192, HEAD_SIZE).to(dtype), torch.randint(8192, (rows,))

    def torch_add_norm() -> object:
        total = x + residual
        return rms_norm(total, (width,), weight, 1e-6), total

    def torch_rotary() -> object:
        cos, sin = cache[positions].unsqueeze(1).chunk(2, dim=-1)
        return rotate(query, cos, sin), rotate(key, cos, sin)

    pairs: Dict[str, Sequence[Call]] = {
        "rms_norm": (
            lambda: ops.rms_norm(out, x, weight, 1e-6),
            lambda: rms_norm(x, (width,), weight, 1e-6),
        ),
        "fused_add_rms_norm": (
            lambda: ops.fused_add_rms_norm(x, residual, weight, 1e-6),
            torch_add_norm,
        ),
        "silu_and_mul": (
            lambda: ops.silu_and_mul(out, gated),
            lambda: silu(gated[:, :width]) * gated[:, width:],
        ),
        "rotary_embedding": (
            lambda: ops.rotary_embedding(positions, query, key, HEAD_SIZE, cache),
            torch_rotary,
        ),
    }
    one = x.nbytes
    moved = {
        "rms_norm": 2 * one,
        "fused_add_rms_norm": 4 * one,
        "silu_and_mul": 3 * one,
        "rotary_embedding": 2 * (query.nbytes + key.nbytes),
    }
    return [
        Record(name, str(dtype)[6:], f"{rows} x {width}", *best(*pair), bytes=moved[name])
        for name, pair in pairs.items()
    ]


def attention(
    dtype: torch.dtype, batch: int, context: int, queries: int, heads: int, kv_heads: int, size: int
) -> Record:
    """`batch` sequences of `context` tokens, the last `queries` of which are new."""
    blocks = -(-context // BLOCK_SIZE)
    table = torch.randperm(batch * blocks).view(batch, blocks)
    shape = (batch * blocks, BLOCK_SIZE, kv_heads, size)
    keys, values = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)
    query = torch.randn(batch * queries, heads, size).to(dtype)
    out = torch.empty_like(query)
    tables, lengths = table.int(), torch.full((batch,), context, dtype=torch.int32)
    starts = torch.arange(0, batch * queries + 1, queries, dtype=torch.int32)

    def gathered(cache: torch.Tensor) -> torch.Tensor:
        flat = cache[table].view(batch, blocks * BLOCK_SIZE, kv_heads, size)[:, :context]
        return flat.transpose(1, 2).contiguous()

    torch_query = query.view(batch, queries, heads, size).transpose(1, 2).contiguous()
    torch_keys, torch_values = gathered(keys), gathered(values)
    mask = None
    if 1 < queries < context:
        mask = torch.ones(queries, context, dtype=torch.bool).tril(context - queries)

    def ours() -> None:
        ops.paged_attention(out, query, keys, values, tables, lengths, starts, size**-0.5)

    def theirs() -> torch.Tensor:
        return scaled_dot_product_attention(
            torch_query,
            torch_keys,
            torch_values,
            attn_mask=mask,
            is_causal=queries == context,
            enable_gqa=heads != kv_heads,
        )

    ours()
    expected = theirs().transpose(1, 2).reshape(out.shape)
    torch.testing.assert_close(out, expected, rtol=2e-2, atol=2e-2)

    times = best(ours, theirs, lambda: (gathered(keys), gathered(values)))
    seen = batch * (queries * context - queries * (queries - 1) // 2)
    return Record(
        "paged_attention",
        str(dtype)[6:],
        f"{batch} x {queries} of {context}, {heads}/{kv_heads} d{size}",
        times[0],
        times[1],
        bytes=2 * batch * context * kv_heads * size * keys.itemsize,
        flops=4 * seen * heads * size,
        gather_us=times[2],
    )


ATTENTION = [  # batch, context, queries, heads, kv_heads, size
    (1, 1024, 1, 32, 8, 128),
    (8, 1024, 1, 32, 8, 128),
    (1, 8192, 1, 32, 8, 128),
    (16, 512, 1, 16, 16, 64),
    (16, 512, 1, 14, 2, 64),
    (1, 1024, 1024, 32, 8, 128),
    (4, 256, 256, 16, 16, 64),
    (1, 2048, 256, 14, 2, 64),
]


def keep_memory() -> None:
    """Configures malloc to neither use mmap for large blocks nor return memory to the system."""
    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    libc = ctypes.CDLL(None)
    if not (libc.mallopt(mmap_threshold, 1 << 30) and libc.mallopt(trim_threshold, -1)):
        raise OSError("mallopt refused: the C library is not glibc")


def machine() -> Dict[str, object]:
    models = processors()
    return {
        "processor": next(iter(models), platform.machine()),
        "processors": len(models),
        "threads": _C.cpu_threads(),
        "isa": _C.cpu_isa(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    keep_memory()
    torch.set_num_threads(_C.cpu_threads())
    torch.manual_seed(0)
    report = {"commit": commit_of_tree(), "machine": machine()}
    print(json.dumps(report["machine"]))
    print(f"{'op':20} {'dtype':9} {'case':24} {'ours':>13} {'torch':>13} {'ratio':>7}")
    records: List[Record] = []

    def note(new: Sequence[Record]) -> None:
        for record in new:
            records.append(record)
            print(record.row(), flush=True)

    with torch.inference_mode():
        for dtype in DTYPES:
            for rows, width in ROWS:
                note(memory_bound(dtype, rows, width))
        for dtype in DTYPES:
            for case in ATTENTION:
                note([attention(dtype, *case)])
    rounded = [
        {key: round(v, 1) if isinstance(v, float) else v for key, v in asdict(record).items()}
        for record in records
    ]
    report["records"] = rounded
    arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
