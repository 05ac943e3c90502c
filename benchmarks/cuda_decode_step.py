"""Milliseconds of a decode step on a GPU: kernel by kernel, as graphs, and with overlap.

    python benchmarks/cuda_decode_step.py [--json FILE] [--batches 1 64 256]

A model of the shape of Qwen3-0.6B in bfloat16, with random weights, continues prompts of 256 random
tokens by 80, greedily. A step is the time between two returns of `LLMEngine.step`; the figures are
medians over the steps in which all sequences decode, in the second of two runs. "host" is the CPU
time of the engine's thread, without waiting for the GPU. All modes must give the same tokens.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

import torch
from conditions import commit, machine
from random_model import write_equal_layers

from vllm import LLM, RequestOutputKind, SamplingParams
from vllm.worker.graphs import Graphs

WAYS: Mapping[str, Mapping[str, bool]] = {
    "kernel by kernel": {"enforce_eager": True, "async_scheduling": False},
    "graphs": {"async_scheduling": False},
    "graphs and overlap": {},
}
PROMPT, OUTPUT = 256, 80
PARAMS = SamplingParams(
    temperature=0,
    max_tokens=OUTPUT,
    ignore_eos=True,
    output_kind=RequestOutputKind.FINAL_ONLY,
)


def decode(llm: LLM, batch: int, name: str) -> Tuple[Dict[str, float], List[List[int]]]:
    generator = random.Random(0)
    engine, waited = llm.engine, 0.0
    collect = engine.executor.collect

    def timed(handle: Any) -> Any:
        nonlocal waited
        started = time.perf_counter()
        result = collect(handle)
        waited += time.perf_counter() - started
        return result

    engine.executor.collect = timed  # type: ignore[method-assign]
    for index in range(batch):
        prompt = [generator.randrange(150_000) for _ in range(PROMPT)]
        engine.add_request(f"{name} {index}", prompt, PARAMS)
    steps, hosts, tokens = [], [], {}
    while engine.has_unfinished_requests:
        started, before = time.perf_counter(), waited
        for output in engine.step():
            tokens[output.request_id] = output.outputs[0].token_ids
        steps.append(time.perf_counter() - started)
        hosts.append(steps[-1] - (waited - before))
    del engine.executor.collect
    steady = slice(-OUTPUT + 10, -4)
    figures = {
        "step": round(1e3 * statistics.median(steps[steady]), 3),
        "host": round(1e3 * statistics.median(hosts[steady]), 3),
    }
    return figures, [tokens[f"{name} {index}"] for index in range(batch)]


def watch_captures() -> List[float]:
    """Records the seconds of each later graph capture."""
    seconds: List[float] = []
    capture = Graphs._capture

    def timed(self: Graphs, compute: Any) -> Any:
        started = time.perf_counter()
        graph = capture(self, compute)
        seconds.append(time.perf_counter() - started)
        return graph

    Graphs._capture = timed  # type: ignore[method-assign]
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="Milliseconds of a decode step on a GPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64, 256])
    arguments = parser.parse_args()
    captures = watch_captures()
    milliseconds: Dict[str, Dict[str, Dict[str, float]]] = {}
    expected: Dict[int, List[List[int]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_equal_layers("0.6B", Path(folder))
        for way, kwargs in WAYS.items():
            captures.clear()
            llm = LLM(folder, skip_tokenizer_init=True, num_kv_blocks=12_000, **kwargs)
            for batch in arguments.batches:
                decode(llm, batch, "first")
                figures, tokens = decode(llm, batch, "second")
                if tokens != expected.setdefault(batch, tokens):
                    raise SystemExit(f"{way}, {batch} sequences: other tokens")
                milliseconds.setdefault(way, {})[str(batch)] = figures
                print(way, batch, figures, flush=True)
            del llm
            gc.collect()
            torch.cuda.empty_cache()
    result = {
        "commit": commit(),
        "machine": machine(),
        "milliseconds": milliseconds,
        "captures": {"graphs": len(captures), "seconds": round(sum(captures), 3)},
    }
    print(result["captures"])
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
