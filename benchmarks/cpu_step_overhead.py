"""Host time of a step with 256 running sequences, and time of sampling on a CPU.

    python -m benchmarks.cpu_step_overhead

All sequences are decoding; the model is omitted. "engine" is `LLMEngine.step` with an executor that
computes nothing: scheduling, writing the step's metadata to its buffer, appending tokens, creating
outputs. A GPU does not wait for it, because the next step is prepared while one is computed. The
parts are timed in a separate run, because timing slows them down a little.

"prompt" is the time from the token ids of a prompt to its submitted step: the GPU waits for that
before it computes a first token.

"sampler" is the time from logits to tokens, for two sizes of vocabulary. Its floor is one pass over
the logits, timed as their maximum.

Figures are medians of CPU time on one thread, in milliseconds, because other load affects CPU time
little; written to cpu_step_overhead.json in this folder.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import statistics
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping

import torch

from benchmarks import cpu_machine
from benchmarks.host_steps import NoModel, Stopwatch, config
from vllm import RequestOutputKind, SamplingParams, ops
from vllm.config import GenerationDefaults
from vllm.engine.executor import StepResult
from vllm.engine.llm_engine import EngineParts, LLMEngine
from vllm.engine.step_input import StepInput
from vllm.engine_args import EngineArgs
from vllm.layers.sampler import TokenCounters, change_logits, sample
from vllm.worker.step_tensors import StepTensors

SEQUENCES = 256
STEPS = 200
MAX_LEN = 4096
PROMPT = 8192
VOCAB_SIZES = (32000, 151936)
KINDS: Mapping[str, Mapping[str, float]] = {
    "greedy": {"temperature": 0},
    "temperature": {"temperature": 0.8},
    "min-p": {"temperature": 0.8, "min_p": 0.05},
    "top-k": {"temperature": 0.8, "top_k": 50},
    "top-p": {"temperature": 0.8, "top_p": 0.9},
    "top-k and top-p": {"temperature": 0.8, "top_p": 0.9, "top_k": 50},
    "greedy with penalties": {"temperature": 0, "repetition_penalty": 1.1},
}


class NoExecutor(NoModel):
    """Computes nothing: every token is the same. Keeps the last step, and what it was told of
    the tokens of sequences before: by counter."""

    num_blocks, block_size, max_rows, overlaps = 40_000, 16, SEQUENCES, True

    def __init__(self) -> None:
        self.counted: Dict[int, List[int]] = {}

    def submit(self, step: StepInput) -> int:
        self.submitted = time.process_time()
        self.last = step
        for index in range(step.num_fresh):
            start, end = step.fresh_starts[index : index + 2]
            self.counted[step.fresh_counters[index]] = list(step.fresh_tokens[start:end])
        return step.num_rows

    def sample(self, handle: int) -> None:
        """No sequence has a mask."""

    def collect(self, handle: int) -> StepResult:
        return StepResult([7] * handle)


def running(vocab_size: int, **how: Any) -> LLMEngine:
    """An engine with decoding sequences only, with prompts of 64 to 512 tokens."""
    parts = EngineParts(
        NoExecutor(), config(vocab_size, MAX_LEN), GenerationDefaults(), None, MAX_LEN
    )
    engine = LLMEngine(EngineArgs("none", max_num_seqs=SEQUENCES), parts)
    generator = random.Random(0)
    params = SamplingParams(
        max_tokens=3000, ignore_eos=True, output_kind=RequestOutputKind.FINAL_ONLY, **how
    )
    for index in range(SEQUENCES):
        length = generator.randint(64, 512)
        prompt = [generator.randrange(100) for _ in range(length)]
        engine.add_request(str(index), prompt, params)
    while not all(seq.num_output_tokens for seq in engine.scheduler.running):
        engine.step()
    while len(engine.scheduler.running) < SEQUENCES:
        engine.step()
    for _ in range(20):
        engine.step()
    return engine


def median_ms(
    function: Callable[..., Any], repeats: int = STEPS, fresh: Callable[[], Any] | None = None
) -> float:
    """`fresh` makes an argument for each call, for functions that overwrite it; not timed."""
    times = []
    for _ in range(repeats):
        args = () if fresh is None else (fresh(),)
        started = time.process_time()
        function(*args)
        times.append(time.process_time() - started)
    return round(statistics.median(times) * 1e3, 3)


def parts_of(engine: LLMEngine) -> Dict[str, float]:
    """Milliseconds per part of a step."""
    watch = Stopwatch()
    watch.watch(engine.scheduler, "schedule", "schedule")
    watch.watch(engine._pipeline.writer, "write", "describe")
    watch.watch(engine.scheduler, "update", "update")
    watch.watch(engine, "_outputs", "outputs")
    for _ in range(STEPS):
        engine.step()
    return watch.processor()


def prompt_figures() -> Dict[str, float]:
    """Milliseconds from a prompt to its submitted step, whole and of two parts."""
    longest = PROMPT + 1
    executor = NoExecutor()
    parts = EngineParts(
        executor, config(VOCAB_SIZES[0], longest), GenerationDefaults(), None, longest
    )
    args = EngineArgs("none", max_num_batched_tokens=PROMPT, async_scheduling=False)
    engine = LLMEngine(args, parts)
    generator, params, times = random.Random(0), SamplingParams(max_tokens=1), []

    def run(index: int) -> None:
        prompt = [generator.randrange(VOCAB_SIZES[0]) for _ in range(PROMPT)]
        started = time.process_time()
        engine.add_request(str(index), prompt, params)
        engine.step()
        times.append(executor.submitted - started)

    for index in range(30):
        run(index)
    whole = round(statistics.median(times) * 1e3, 3)
    watch = Stopwatch()
    watch.watch(engine.scheduler, "schedule", "schedule")
    watch.watch(engine._pipeline.writer, "write", "describe")
    for index in range(30):
        run(index)
    return {"whole": whole, **watch.processor()}


def counted(lists: Mapping[int, List[int]], vocab_size: int) -> TokenCounters:
    counters = TokenCounters.make(SEQUENCES, vocab_size, torch.device("cpu"))
    starts = [0, *itertools.accumulate(map(len, lists.values()))]
    tokens = [token for each in lists.values() for token in each]
    arrays = (list(lists), starts, tokens, [1] * len(tokens))
    tensors = [torch.tensor(each, dtype=torch.int64) for each in arrays]
    ops.count_tokens(counters.seen, counters.uses, *tensors)
    return counters


def sampler_figures(vocab_size: int) -> Dict[str, float]:
    logits = torch.randn(SEQUENCES, vocab_size, generator=torch.Generator().manual_seed(0)) * 4
    figures = {"read the logits once": median_ms(lambda: logits.amax(-1), 5)}
    for name, how in KINDS.items():
        executor: Any = running(vocab_size, **how).executor
        step = executor.last
        tensors = StepTensors(step.layout, torch.frombuffer(step.memory, dtype=torch.uint8))
        sampling = tensors.sampling(step, step.num_rows, step.num_changes)
        inputs = tensors.rows(step.num_rows)  # any tokens
        counters = counted(executor.counted, vocab_size)

        def draw(x: torch.Tensor, how: Any = sampling, more: Any = (inputs, counters)) -> None:
            sample(change_logits(x, how, *more), how)

        figures[name] = median_ms(draw, 5, logits.clone)
    return figures


def main() -> None:
    torch.set_num_threads(1)
    os.environ["VLLM_CPU_THREADS"] = "1"
    figures: Dict[str, Any] = {
        **cpu_machine.describe(),
        "sequences": SEQUENCES,
        "engine": {
            name: median_ms(running(VOCAB_SIZES[0], **how).step) for name, how in KINDS.items()
        },
        "parts of greedy": parts_of(running(VOCAB_SIZES[0], **KINDS["greedy"])),
        f"prompt of {PROMPT} tokens": prompt_figures(),
    }
    for vocab_size in VOCAB_SIZES:
        figures[f"sampler, vocabulary of {vocab_size}"] = sampler_figures(vocab_size)
    print(json.dumps(figures, indent=1, ensure_ascii=False))
    Path(__file__).with_suffix(".json").write_text(
        json.dumps(figures, indent=1, ensure_ascii=False) + "\n"
    )


if __name__ == "__main__":
    main()
