"""Matrix products of few rows on a GPU, compared with cuBLAS and with reading the weights.

    python benchmarks/cuda_few_rows.py [--json FILE] [--rows 1 4 8 16] [--models 0.6B ...]

The products of Qwen3's layers and its head, bfloat16: alone, and as a layer has them, with the
operations that ours fuses and that cuBLAS leaves to separate kernels: the norm before (with the
residual addition of the product before that), the activation after. vllm.layers.weights.choice
chooses by the latter. Of more rows than 16, which ours does not take, cuBLAS is alone.

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
from typing import Callable, Dict, List, Tuple

import torch
from conditions import commit
from cuda_attention import Graph, ceilings, give_back_memory, read_words
from cuda_timing import machine

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
ROWS = [1, 4, 8, 16]
ROTATED_BYTES = 256 << 20
MOST_WEIGHTS = 48
TURNS = 7
EPSILON = 1e-6
BOTH = ("ours", "cublas")
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


class Contenders:
    """A product of some rows by several weights, whose graphs share inputs and outputs."""

    def __init__(self, name: str, rows: int, weights: torch.Tensor) -> None:
        _, outputs, inputs = weights.shape
        self.name, self.rows, self.weights = name, rows, weights
        generator = torch.Generator("cuda").manual_seed(rows)

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator, device=DEVICE).bfloat16()

        self.x, self.stream = draw(rows, inputs), draw(rows, inputs)
        self.norm = 1 + draw(inputs) / 8
        self.residual = draw(rows, outputs)
        self.gated = draw(rows, outputs // 2)
        self.outs = {each: self.residual.new_full((rows, outputs), float("nan")) for each in BOTH}
        self.calls = {"cublas": self.cublas, "cublas in a layer": self.cublas_in_a_layer}
        if rows <= ops.FEW_ROWS:
            self.calls.update({"ours": self.ours, "ours in a layer": self.ours_in_a_layer})
        if name == "head":
            self.calls = {each: call for each, call in self.calls.items() if each in BOTH}

    def graphs(self) -> Dict[str, Graph]:
        return {
            each: Graph([lambda w=w, call=call: call(w) for w in self.weights])
            for each, call in self.calls.items()
        }

    def ours(self, weight: torch.Tensor) -> None:
        ops.few_rows_linear(self.outs["ours"], self.x, weight)

    def cublas(self, weight: torch.Tensor) -> None:
        torch.mm(self.x, weight.t(), out=self.outs["cublas"])

    def ours_in_a_layer(self, weight: torch.Tensor) -> None:
        if self.name in ("qkv", "gate_up"):
            out = self.gated if self.name == "gate_up" else self.residual
            gated = self.name == "gate_up"
            ops.few_rows_linear(out, self.stream, weight, None, self.norm, EPSILON, gated)
        else:
            ops.few_rows_linear(self.residual, self.x, weight, residual=self.residual)

    def cublas_in_a_layer(self, weight: torch.Tensor) -> None:
        if self.name in ("qkv", "gate_up"):
            ops.fused_add_rms_norm(self.x, self.stream, self.norm, EPSILON)
        self.cublas(weight)
        if self.name == "gate_up":
            ops.silu_and_mul(self.gated, self.outs["cublas"])

    def errors(self) -> Dict[str, float]:
        """Relative, 2-norm, of the last weight."""
        expected = self.x.double() @ self.weights[-1].double().t()
        found = {}
        for each in BOTH:
            if each in self.calls:
                self.calls[each](self.weights[-1])
                error = (self.outs[each].double() - expected).norm() / expected.norm()
                found[each] = float(f"{float(error):.2g}")
        return found


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

    contenders = {n: Contenders(name, n, weights) for n in rows}
    graphs = {(0, "read"): Graph([read(weight) for weight in weights])}
    for n, each in contenders.items():
        graphs.update({(n, way): graph for way, graph in each.graphs().items()})
    times: Dict[Tuple[int, str], List[float]] = {each: [] for each in graphs}
    for _ in range(TURNS):
        for key, graph in graphs.items():
            times[key].append(graph.microseconds())
    us = {key: round(statistics.median(found), 2) for key, found in times.items()}
    return [
        {
            "model": model,
            "product": name,
            "outputs": outputs,
            "inputs": inputs,
            "rows": n,
            "us": {"read": us[0, "read"], **{way: us[n, way] for way in each.calls}},
            "error": each.errors(),
        }
        for n, each in contenders.items()
    ]


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
