"""What scheduling and sampling add to each step, with 256 sequences running.

    python benchmarks/cpu_step_overhead.py

Every sequence decodes; the model is left out. The scheduler's part is `schedule` and `update`; that
of describing a step is the filling of its buffer, for each way of sampling; the sampler's is what
it computes from logits, for two sizes of vocabulary. The sampler's floor is one pass over the
logits: reading them once, timed as their maximum.

Figures are medians of processor time on one thread, in milliseconds, so that other work on the
machine disturbs them little; written to cpu_step_overhead.json beside this file.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import torch
from host_overhead import commit, machine

from vllm import _C, SamplingParams
from vllm.engine.block_manager import BlockManager
from vllm.engine.describe import StepWriter
from vllm.engine.scheduler import Chunk, Scheduler
from vllm.engine.sequence import Sequence
from vllm.engine.step_input import SizeClass
from vllm.layers.sampler import sample
from vllm.worker.step_tensors import StepTensors

SEQUENCES = 256
STEPS = 200
CPU = torch.device("cpu")


def running(params: SamplingParams, vocab_size: int) -> Scheduler:
    """A scheduler whose sequences, of 64 to 512 tokens, have all been computed."""
    scheduler = Scheduler(BlockManager(20_000, 16), max_num_seqs=256, max_num_batched_tokens=2048)
    generator = random.Random(0)
    for seq_id in range(SEQUENCES):
        length = generator.randint(64, 512)
        prompt = [generator.randrange(vocab_size) for _ in range(length)]
        seq = Sequence(seq_id, prompt, params, max_tokens=10_000, seed=seq_id)
        scheduler.add(seq)
    chunks: List[Chunk] = []
    while not (len(chunks) == SEQUENCES and all(chunk.num_sampled for chunk in chunks)):
        chunks = step(scheduler)
    return scheduler


def step(scheduler: Scheduler) -> List[Chunk]:
    chunks = scheduler.schedule()
    scheduler.update(chunks, [7] * sum(chunk.num_sampled for chunk in chunks))
    return chunks


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


class HostMemory:
    """What the writer wants of an executor."""

    block_size = 16

    def allocate(self, nbytes: int) -> memoryview:
        return memoryview(bytearray(nbytes))

    def room(self, size: SizeClass) -> int:
        return 0


def sampler_figures(vocab_size: int, kinds: Dict[str, SamplingParams]) -> Dict[str, Any]:
    logits = torch.randn(SEQUENCES, vocab_size, generator=torch.Generator().manual_seed(0)) * 4
    figures: Dict[str, Any] = {"read the logits once": median_ms(lambda: logits.amax(-1), 5)}
    for name, params in kinds.items():
        memory: Any = HostMemory()
        step_input = StepWriter(memory, vocab_size).write(running(params, 100).schedule())
        tensors = StepTensors(
            step_input.layout, torch.frombuffer(step_input.memory, dtype=torch.uint8)
        )
        how = tensors.sampling(step_input, step_input.num_rows, step_input.num_changes)
        figures[name] = median_ms(lambda x, how=how: sample(x, how), 5, logits.clone)
    return figures


def main() -> None:
    torch.set_num_threads(1)
    os.environ["VLLM_CPU_THREADS"] = "1"
    greedy = SamplingParams(temperature=0)
    scheduler = running(greedy, 32000)
    figures: Dict[str, Any] = {
        "commit": commit(),
        "machine": {**machine(), "isa": _C.cpu_isa()},
        "sequences": SEQUENCES,
    }
    figures["schedule and update"] = median_ms(lambda: step(scheduler))
    kinds = {
        "greedy": greedy,
        "temperature": SamplingParams(temperature=0.8),
        "min-p": SamplingParams(temperature=0.8, min_p=0.05),
        "top-k": SamplingParams(temperature=0.8, top_k=50),
        "top-p": SamplingParams(temperature=0.8, top_p=0.9),
        "top-k and top-p": SamplingParams(temperature=0.8, top_p=0.9, top_k=50),
        "greedy with penalties": SamplingParams(temperature=0, repetition_penalty=1.1),
    }
    described = {}
    for name, params in kinds.items():
        memory: Any = HostMemory()
        writer = StepWriter(memory, 32000)
        chunks = running(params, 100).schedule()
        described[name] = median_ms(lambda w=writer, c=chunks: w.write(c))
    figures["describe the step"] = described
    for vocab_size in (32000, 151936):
        figures[f"sampler, vocabulary of {vocab_size}"] = sampler_figures(vocab_size, kinds)
    print(json.dumps(figures, indent=1, ensure_ascii=False))
    Path(__file__).with_suffix(".json").write_text(
        json.dumps(figures, indent=1, ensure_ascii=False) + "\n"
    )


if __name__ == "__main__":
    main()
