"""Host time of a step whose sequences all have a grammar, without the model.

    python -m benchmarks.grammar_host_work

64 sequences are constrained to the schema of `benchmarks/structured_outputs.py`, with a vocabulary
of 151,936 tokens. The executor computes nothing, and samples any token that the mask allows. With
overlap, all timed work happens while a GPU computes the forward pass of the next step: "masks" and
"take in" before that step can be sampled, the rest before the step after it begins.

Figures are medians, in milliseconds: CPU time of all threads together, which other load affects
little; and wall-clock time, because several threads compute masks: once with one thread, and once
with llguidance's own number of threads. Written to grammar_host_work.json in this folder.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import random
import tempfile
from pathlib import Path
from typing import Dict, List, Optional

import llguidance
import numpy as np

from benchmarks import cpu_machine, random_model
from benchmarks.host_steps import NoModel, Stopwatch, config
from benchmarks.structured_outputs import SCHEMAS
from vllm import SamplingParams
from vllm.config import GenerationDefaults
from vllm.engine.executor import StepResult
from vllm.engine.llm_engine import EngineParts, LLMEngine
from vllm.engine.masks import StepMasks
from vllm.engine.step_input import StepInput
from vllm.engine_args import EngineArgs
from vllm.sampling_params import RequestOutputKind
from vllm.text import grammars
from vllm.text.tokenizer import Tokenizer

SEQUENCES = 64
STEPS = 200
VOCAB = 151_936
MAX_LEN = 1024


class AnyAllowed(NoModel):
    """Computes nothing: samples uniformly from the tokens that each row's mask allows."""

    num_blocks, block_size, max_rows, overlaps = 8192, 16, SEQUENCES, True

    def __init__(self) -> None:
        self._source = random.Random(0)
        self._tokens: List[int] = []

    def submit(self, step: StepInput) -> StepInput:
        return step

    def sample(self, handle: StepInput) -> None:
        masks = handle.masks
        assert masks is not None
        bits = np.frombuffer(masks.memory[masks.bits_offset : masks.nbytes], np.uint8)
        rows = np.unpackbits(bits.reshape(len(masks.rows), -1), axis=1, bitorder="little")
        self._tokens = [int(self._source.choice(np.flatnonzero(row))) for row in rows]

    def collect(self, handle: StepInput) -> StepResult:
        return StepResult(self._tokens)


def parts_of_a_step(
    tokenizer: Tokenizer, num_threads: Optional[int]
) -> Dict[str, Dict[str, float]]:
    """num_threads: threads that compute masks; None is llguidance's default."""
    executor = llguidance.LLExecutor(num_threads)
    grammars._executor = lambda: executor
    parts = EngineParts(
        AnyAllowed(), config(VOCAB, MAX_LEN), GenerationDefaults(), tokenizer, MAX_LEN
    )
    engine = LLMEngine(EngineArgs("none", max_num_seqs=SEQUENCES), parts)
    params = SamplingParams(
        temperature=1.0,
        seed=0,
        max_tokens=900,
        structured_outputs={"json": SCHEMAS["at most 20"]},
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
    for index in range(SEQUENCES):
        engine.add_request(str(index), [index + 1, 5, 7, 9], params)
    for _ in range(20):
        engine.step()
    assert len(engine.scheduler.running) == SEQUENCES
    watch = Stopwatch()
    undo = watch.watch(StepMasks, "fill", "masks")
    watch.watch(engine.scheduler, "schedule", "schedule")
    watch.watch(engine._writer, "write", "describe")
    watch.watch(engine.scheduler, "update", "take in")
    watch.watch(engine, "_outputs", "outputs")
    for _ in range(STEPS):
        engine.step()
    undo()
    assert len(engine.scheduler.running) == SEQUENCES
    return {"processor": watch.processor(), "wall": watch.wall()}


def main() -> None:
    machine = cpu_machine.describe()
    with tempfile.TemporaryDirectory() as made:
        random_model.write_tokenizer(VOCAB, Path(made))
        tokenizer = Tokenizer(Path(made))
        record = {
            **machine,
            "llguidance": importlib.metadata.version("llguidance"),
            "sequences": SEQUENCES,
            "vocabulary": VOCAB,
            "one thread": parts_of_a_step(tokenizer, 1),
            f"{len(os.sched_getaffinity(0))} processors": parts_of_a_step(tokenizer, None),
        }
    text = json.dumps(record, indent=1, ensure_ascii=False)
    print(text)
    Path(__file__).with_suffix(".json").write_text(text + "\n")


if __name__ == "__main__":
    main()
