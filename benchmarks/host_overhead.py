"""Host time of one op call, without the kernel's own work.

    python benchmarks/host_overhead.py [--json FILE]

Each op is called with torch tensors of zero rows, which need no computation or launch, and of one
row of 64 elements: on the CPU and, if there is a GPU, on CUDA. There, the difference is the time of
the stream, the context and ``cuLaunchKernel``; a burst of calls fits in the launch queue. Tensors
are read in both ways that the library has for torch; `torch.add` on the same tensors is measured
for comparison.

A figure is the mean of the fastest of many bursts, minus that of an empty call, in microseconds:
the time of a call on an idle processor. The goals are those of design D4: 1.5
for an op with the DLPack table, 0.6 a tensor without.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List

import torch
from conditions import commit, machine

from vllm import _C, ops
from vllm.ops import tracing

Call = Callable[[], object]

WIDTH = 64
BURST = 200  # calls; the launch queue of a GPU holds about a thousand
BURSTS = 500
TENSORS = {
    "rms_norm": 3,
    "fused_add_rms_norm": 3,
    "silu_and_mul": 2,
    "rotary_embedding": 4,
    "rotary_and_cache": 10,
    "reshape_and_cache": 5,
    "embedding": 3,
    "torch.add": 3,
}


def microseconds(call: Call, settle: Call) -> float:
    """The host time of one call; `settle` empties the launch queue between bursts."""

    def fastest(function: Call) -> float:
        means = []
        for _ in range(BURSTS):
            start = time.perf_counter()
            for _ in range(BURST):
                function()
            means.append((time.perf_counter() - start) / BURST * 1e6)
            settle()
        return min(means)

    return fastest(call) - fastest(lambda: None)


def calls(rows: int, device: str) -> Dict[str, Call]:
    def ones(*shape: int) -> torch.Tensor:
        return torch.ones(shape, device=device)

    out, x, residual, weight = ones(rows, WIDTH), ones(rows, WIDTH), ones(rows, WIDTH), ones(WIDTH)
    half, positions = ones(rows, WIDTH // 2), torch.zeros(rows, dtype=torch.int64, device=device)
    cache, table = ones(4, 32), ones(4, WIDTH)
    head, key, value = (ones(rows, 1, 32) for _ in range(3))
    keys, values, norm = ones(2, 4, 1, 32), ones(2, 4, 1, 32), ones(32)
    return {
        "rms_norm": lambda: ops.rms_norm(out, x, weight, 1e-6),
        "fused_add_rms_norm": lambda: ops.fused_add_rms_norm(x, residual, weight, 1e-6),
        "silu_and_mul": lambda: ops.silu_and_mul(half, x),
        "rotary_embedding": lambda: ops.rotary_embedding(positions, x, residual, 32, cache),
        "rotary_and_cache": lambda: ops.rotary_and_cache(
            positions, head, key, value, cache, keys, values, positions, norm, norm, 1e-6
        ),
        "reshape_and_cache": lambda: ops.reshape_and_cache(key, value, keys, values, positions),
        "embedding": lambda: ops.embedding(out, positions, table),
        "torch.add": lambda: torch.add(x, residual, out=out),
    }


def measure(device: str) -> List[Dict[str, object]]:
    """A record per way of reading tensors, number of rows, and op."""
    settle: Call = torch.cuda.synchronize if device == "cuda" else lambda: None
    has_table = hasattr(torch.Tensor, "__dlpack_c_exchange_api__")
    records: List[Dict[str, object]] = []
    for source in ["table", "attributes"] if has_table else ["attributes"]:
        _C.use_torch_attributes(source == "attributes")
        for rows in (0, 1):
            for op, call in calls(rows, device).items():
                if op == "torch.add" and source == "attributes" and has_table:
                    continue  # the same call was measured
                taken = microseconds(call, settle)
                records.append(
                    {
                        "device": device,
                        "source": "torch" if op == "torch.add" else source,
                        "rows": rows,
                        "op": op,
                        "microseconds": round(taken, 3),
                        "microseconds_per_tensor": round(taken / TENSORS[op], 3),
                    }
                )
    _C.use_torch_attributes(False)
    return records


def main() -> int:
    parser = argparse.ArgumentParser(description="Host time of one op call")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    arguments = parser.parse_args()
    records = []
    for device in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
        records += measure(device)
    is_tracing = microseconds(lambda: tracing.is_tracing(), lambda: None)
    result = {
        "commit": commit(),
        "machine": machine(),
        "unit": "microseconds",
        "is_tracing": round(is_tracing, 3),
        "records": records,
    }
    print(f"{'device':7}{'source':12}{'rows':>4}  {'op':20}{'µs':>8}{'µs a tensor':>13}")
    for record in records:
        print(
            "{device:7}{source:12}{rows:4}  {op:20}{microseconds:8.3f}"
            "{microseconds_per_tensor:13.3f}".format(**record)
        )
    print(f"of which, to see whether Dynamo is tracing: {is_tracing:.3f} µs")
    if arguments.json:
        text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
        arguments.json.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
