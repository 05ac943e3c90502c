"""What scheduling and sampling add to each step, with 256 sequences running.

    python benchmarks/cpu_step_overhead.py

Every sequence decodes; the model is left out. The scheduler's part is `schedule` and `update`; the
runner's the tensors that describe a step; the sampler's what it builds on the host and what it
computes from logits, for two sizes of vocabulary. The sampler's floor is one pass over the logits:
reading them once, timed as their maximum.

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
from types import SimpleNamespace
from typing import Any, Callable, Dict, List

import torch
from host_overhead import commit, machine

from vllm import _C, SamplingParams
from vllm.engine.block_manager import BlockManager
from vllm.engine.model_runner import ModelRunner
from vllm.engine.sampling import SamplingTensorBuilder
from vllm.engine.scheduler import Chunk, Scheduler
from vllm.engine.sequence import Sequence
from vllm.layers.sampler import sample

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
    while not (len(chunks) == SEQUENCES and all(chunk.samples for chunk in chunks)):
        chunks = step(scheduler)
    return scheduler


def step(scheduler: Scheduler) -> List[Chunk]:
    chunks = scheduler.schedule()
    scheduler.update(chunks, [7] * sum(chunk.samples for chunk in chunks))
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
    chunks = scheduler.schedule()
    model = SimpleNamespace(config=SimpleNamespace(vocab_size=32000))
    runner: Any = ModelRunner(model, [], block_size=16, device=CPU)  # type: ignore[arg-type]
    figures["describe the step"] = median_ms(lambda: runner._prepare(chunks))
    kinds = {
        "greedy": greedy,
        "temperature": SamplingParams(temperature=0.8),
        "min-p": SamplingParams(temperature=0.8, min_p=0.05),
        "top-k": SamplingParams(temperature=0.8, top_k=50),
        "top-p": SamplingParams(temperature=0.8, top_p=0.9),
        "top-k and top-p": SamplingParams(temperature=0.8, top_p=0.9, top_k=50),
        "greedy with penalties": SamplingParams(temperature=0, repetition_penalty=1.1),
    }
    for vocab_size in (32000, 151936):
        logits = torch.randn(SEQUENCES, vocab_size, generator=torch.Generator().manual_seed(0)) * 4
        parts: Dict[str, Any] = {"read the logits once": median_ms(lambda x=logits: x.amax(-1), 5)}
        for name, params in kinds.items():
            seqs = running(params, 100).running
            builder = SamplingTensorBuilder(vocab_size, CPU)
            parts[name] = {
                "host": median_ms(lambda b=builder, s=seqs: b.build(s)),
                "device": median_ms(
                    lambda x, b=builder, s=seqs: sample(x, b.build(s)), 5, logits.clone
                ),
            }
        figures[f"sampler, vocabulary of {vocab_size}"] = parts
    print(json.dumps(figures, indent=1, ensure_ascii=False))
    Path(__file__).with_suffix(".json").write_text(
        json.dumps(figures, indent=1, ensure_ascii=False) + "\n"
    )


if __name__ == "__main__":
    main()
