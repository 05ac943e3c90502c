"""Matrix products of few rows on a GPU, compared with cuBLAS and with reading the weights.

    python benchmarks/cuda_few_rows.py [--json FILE] [--rows 1 4 8 16] [--models 0.6B ...]

The products of Qwen3's layers and its head, bfloat16, without the operations that the op can fuse.
Each contender is captured in a CUDA graph over several weights, which together exceed L2;
contenders are timed alternately, and a figure is the median of all runs, launches included. "read"
is a plain kernel that reads as many bytes. Results are compared with float64, on one of the
weights.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Callable, Dict, List

import torch
from cuda_attention import Graph, ceilings, give_back_memory, read_words
from cuda_timing import commit, machine

from vllm import ops

# hidden size, width of the MLP, and outputs of the query, key and value projections together and
# of attention
MODELS = {
    "0.6B": (1024, 3072, 4096, 2048),
    "1.7B": (2048, 6144, 4096, 2048),
    "4B": (2560, 9728, 6144, 4096),
    "8B": (4096, 12288, 6144, 4096),
    "14B": (5120, 17408, 7168, 5120),
}
VOCABULARY = 151936
ROWS = [1, 2, 4, 8, 16]
ROTATED_BYTES = 256 << 20
MOST_WEIGHTS = 48
TURNS = 7
DEVICE = torch.device("cuda")


def shapes(model: str) -> Dict[str, tuple[int, int]]:
    """(outputs, inputs) of each product."""
    hidden, width, qkv, attention = MODELS[model]
    return {
        "qkv": (qkv, hidden),
        "o": (hidden, attention),
        "gate_up": (2 * width, hidden),
        "down": (hidden, width),
        "head": (VOCABULARY, hidden),
    }


def measure(model: str, name: str, rows: List[int]) -> List[Dict[str, object]]:
    outputs, inputs = shapes(model)[name]
    count = max(2, min(MOST_WEIGHTS, ROTATED_BYTES // (outputs * inputs * 2)))
    generator = torch.Generator("cuda").manual_seed(0)
    weights = torch.empty(count, outputs, inputs, dtype=torch.bfloat16, device=DEVICE)
    for weight in weights:
        weight.normal_(0, inputs**-0.5, generator=generator)
    processors = torch.cuda.get_device_properties(DEVICE).multi_processor_count
    sink = torch.empty(8 * processors, dtype=torch.int32, device=DEVICE)

    def read(weight: torch.Tensor) -> Callable[[], object]:
        words = weight.view(torch.int32).flatten()
        grid = (min(8 * processors, -(-words.numel() // 4096)),)
        return lambda: read_words[grid](words, sink, words.numel(), size=4096)

    graphs = {"read": Graph([read(weight) for weight in weights])}
    outs: Dict[str, torch.Tensor] = {}
    xs = {}
    for n in rows:
        x = xs[n] = torch.randn(n, inputs, generator=generator, device=DEVICE).bfloat16()
        ours, theirs = (x.new_full((n, outputs), float("nan")) for _ in range(2))
        outs[f"ours {n}"], outs[f"cublas {n}"] = ours, theirs
        graphs[f"ours {n}"] = Graph(
            [lambda w=w, x=x, out=ours: ops.few_rows_linear(out, x, w) for w in weights]
        )
        graphs[f"cublas {n}"] = Graph(
            [lambda w=w, x=x, out=theirs: torch.mm(x, w.t(), out=out) for w in weights]
        )
    times: Dict[str, List[float]] = {each: [] for each in graphs}
    for _ in range(TURNS):
        for each, graph in graphs.items():
            times[each].append(graph.microseconds())
    us = {each: round(statistics.median(found), 2) for each, found in times.items()}

    found = []
    for n in rows:
        expected = xs[n].double() @ weights[-1].double().t()
        errors = {
            each: float((outs[f"{each} {n}"].double() - expected).norm() / expected.norm())
            for each in ("ours", "cublas")
        }
        found.append(
            {
                "model": model,
                "product": name,
                "outputs": outputs,
                "inputs": inputs,
                "rows": n,
                "us": {
                    "read": us["read"],
                    **{each: us[f"{each} {n}"] for each in ("ours", "cublas")},
                },
                "error": {each: float(f"{value:.2g}") for each, value in errors.items()},
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Matrix products of few rows on a GPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    arguments = parser.parse_args()
    limits = ceilings()
    print(limits, flush=True)
    records: List[Dict[str, object]] = []
    for model in arguments.models:
        for name in shapes(model):
            for record in measure(model, name, arguments.rows):
                records.append(record)
                print(model, name, record["rows"], record["us"], record["error"], flush=True)
            give_back_memory()
            if arguments.json:
                result = {
                    "commit": commit(),
                    "machine": machine(),
                    "unit": "microseconds",
                    "ceilings": limits,
                    "records": records,
                }
                arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
