"""What the masks of a grammar are like, one sequence at a time: how long llguidance takes for each
part, how often a mask returns, and how often no mask would be needed.

    python -m benchmarks.grammar_masks

For each schema of `benchmarks/structured_outputs.py`, outputs of 1,000 tokens are sampled uniformly
from those that the mask allows, with a vocabulary of 151,936 tokens. Written to grammar_masks.json
in this folder:

* processor time in microseconds, [median, one in a hundred exceeds it, most], for: a mask;
  consuming a token; validating one, which would tell whether a token sampled without a mask may
  stay; the tokens that must follow ("forced").
* shares of positions: "returns": the same mask has been seen at another position; "forced": one
  token alone may follow, by the mask; "refused": a token sampled uniformly from the whole
  vocabulary would not be allowed.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np

from benchmarks import cpu_machine, random_model
from benchmarks.structured_outputs import SCHEMAS
from vllm.structured_outputs import StructuredOutputsParams
from vllm.text.grammars import GrammarCompiler
from vllm.text.tokenizer import Tokenizer

OUTPUTS = 5
TOKENS = 1000
VOCAB = 151_936
NBYTES = VOCAB // 8


class Times:
    """Processor time of functions, by name."""

    def __init__(self) -> None:
        self._seconds: Dict[str, List[float]] = {}

    def of(self, name: str, function: Callable[..., Any], *args: Any) -> None:
        started = time.thread_time()
        function(*args)
        self._seconds.setdefault(name, []).append(time.thread_time() - started)

    def microseconds(self) -> Dict[str, List[float]]:
        found = {}
        for name, seconds in self._seconds.items():
            ordered = sorted(seconds)
            chosen = statistics.median(ordered), ordered[len(ordered) * 99 // 100], ordered[-1]
            found[name] = [round(each * 1e6, 1) for each in chosen]
        return found


def masks_of(compiler: GrammarCompiler, schema: Dict[str, Any]) -> Dict[str, Any]:
    grammar = compiler.compile(StructuredOutputsParams(json=json.dumps(schema)))
    memory = bytearray(NBYTES)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    times, source, seen, returns = Times(), random.Random(0), set(), 0
    counts: List[int] = []
    for _ in range(OUTPUTS):
        matcher = grammar.copy().matcher
        for _ in range(TOKENS):
            times.of("mask", matcher.unsafe_compute_mask_ptr, address, NBYTES)
            allowed = np.flatnonzero(np.unpackbits(np.asarray(memory), bitorder="little"))
            counts.append(len(allowed))
            mask = bytes(memory)
            returns += mask in seen
            seen.add(mask)
            token = int(source.choice(allowed))
            times.of("forced", matcher.compute_ff_tokens)
            times.of("validate", matcher.validate_tokens, [token])
            times.of("consume", matcher.consume_token, token)
            assert not matcher.is_error()
    return {
        "microseconds": times.microseconds(),
        "masks": len(seen),
        "returns": round(returns / len(counts), 4),
        "forced": round(counts.count(1) / len(counts), 4),
        "refused": round(1 - statistics.mean(counts) / VOCAB, 4),
    }


def main() -> None:
    machine = cpu_machine.describe()
    with tempfile.TemporaryDirectory() as made:
        random_model.write_tokenizer(VOCAB, Path(made))
        compiler = GrammarCompiler(Tokenizer(Path(made)), VOCAB, frozenset([0]))
        record = {
            **machine,
            "llguidance": importlib.metadata.version("llguidance"),
            "positions": OUTPUTS * TOKENS,
            **{name: masks_of(compiler, schema) for name, schema in SCHEMAS.items()},
        }
    text = json.dumps(record, indent=1, ensure_ascii=False)
    print(text)
    Path(__file__).with_suffix(".json").write_text(text + "\n")


if __name__ == "__main__":
    main()
