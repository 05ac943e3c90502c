"""The cost of constraining outputs to a schema: tokens per second with and without a grammar.

    python -m benchmarks.structured_outputs
    python -m benchmarks.structured_outputs --shape 0.6B --name 0.6B.h200

`--sequences` requests of `--tokens` tokens each run at once: unconstrained, or as JSON of a schema
whose output never ends, so that the number of tokens is the same; alternately, `--rounds` times.
There are two schemas: with a string of any length, and with one of at most 20 characters, whose
masks near the limit take llguidance up to a hundred times longer. The grammars are compiled before.
The model has random weights (`benchmarks/random_model.py`). Writes
structured_outputs_NAME.json in this folder.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

from benchmarks import random_model
from benchmarks.server_throughput import describe_machine
from vllm import LLM, SamplingParams


def item(name: Dict[str, Any]) -> Dict[str, Any]:
    """The schema of an object. name: that of a string."""
    return {
        "type": "object",
        "properties": {
            "name": name,
            "age": {"type": "integer"},
            "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 3},
            "score": {"type": "number"},
        },
        "required": ["name", "age", "tags", "score"],
    }


def without_end(items: Dict[str, Any]) -> Dict[str, Any]:
    """The schema of more of them than an output can hold."""
    return {"type": "array", "items": items, "minItems": 1000}


ITEM = item({"type": "string"})
SCHEMAS = {
    "any length": without_end(ITEM),
    "at most 20": without_end(item({"type": "string", "maxLength": 20})),
}


def run(llm: LLM, args: argparse.Namespace, structured: Optional[Dict[str, Any]]) -> float:
    """Output tokens per second."""
    prompts = [[place + 1, 5, 7, 9] for place in range(args.sequences)]
    params = SamplingParams(
        temperature=1.0,
        seed=0,
        ignore_eos=True,
        max_tokens=args.tokens,
        structured_outputs=structured,
    )
    started = time.perf_counter()
    outputs = llm.generate(prompts, params)
    seconds = time.perf_counter() - started
    count = sum(len(output.outputs[0].token_ids) for output in outputs)
    assert count == args.sequences * args.tokens, "an output has ended early"
    return count / seconds


def measure(llm: LLM, args: argparse.Namespace) -> Dict[str, List[float]]:
    """Rates of each round, by kind."""
    found: Dict[str, List[float]] = {kind: [] for kind in ("free", *SCHEMAS)}
    for round_ in range(-1, args.rounds):  # the first is not counted
        for kind, rates in found.items():
            rate = run(llm, args, {"json": SCHEMAS[kind]} if kind in SCHEMAS else None)
            if round_ >= 0:
                rates.append(rate)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", choices=sorted(random_model.SHAPES), default="small")
    parser.add_argument("--name", help="of the record; the shape's if not given")
    parser.add_argument("--record", type=Path, default=Path(__file__).parent)
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as made:
        folder = Path(made, args.shape)
        random_model.write_model(args.shape, folder)
        found = measure(LLM(str(folder), max_num_seqs=args.sequences, max_model_len=1024), args)
    medians = {kind: statistics.median(rates) for kind, rates in found.items()}
    record = {
        **describe_machine(),
        "shape": args.shape,
        "sequences": args.sequences,
        "tokens": args.tokens,
        "tokens_per_second": medians,
        "cost": {kind: 1 - medians[kind] / medians["free"] for kind in SCHEMAS},
        "rounds": found,
    }
    path = args.record / f"structured_outputs_{args.name or args.shape}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(medians, record["cost"])


if __name__ == "__main__":
    main()
