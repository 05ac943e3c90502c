"""A model on one GPU and on several: milliseconds of a decode step, and tokens per second offline.

    python -m benchmarks.cuda_ranks [--json FILE] [--shape 14B] [--ranks 1 2] [--batches 1 64 256]

Weights are random and created on the GPUs; no file is read. A decode step is the median time
between two returns of `LLMEngine.step` while all sequences decode, with prompts of 128 random
tokens, in the second of two runs. Offline, 256 prompts of 100 to 400 tokens are continued by 128
sampled tokens each; the figure is output tokens per second of the third run. The prompts of each
run are others, so that nothing is cached; the graphs are: the second step of a kind captures one.

Ranks are started from this file, too, so that they use random weights.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List

import torch

sys.path.insert(0, str(Path(__file__).parent))
from conditions import commit, machine
from random_model import SHAPES

from vllm import LLM, RequestOutputKind, SamplingParams
from vllm.config import ModelConfig
from vllm.layers.weights import choose_format
from vllm.models.decoder import DecoderLM
from vllm.models.loader import default_dtype
from vllm.models.registry import find_architecture
from vllm.parallel.group import Group, SingleGroup
from vllm.worker import load
from vllm.worker.ranks import serve
from vllm.worker.ranks.processes import Processes

VOCABULARY = SHAPES["14B"]["vocab_size"]  # of each shape
PROMPT, OUTPUT = 128, 80
OFFLINE, OFFLINE_OUTPUT = 256, 128


def load_random_model(
    folder: Path,
    config: ModelConfig,
    *,
    dtype: torch.dtype,
    device: torch.device,
    max_model_len: int,
    group: Any = None,
    **rest: Any,
) -> DecoderLM:
    """Replaces `load_model`."""
    ranks: Group = group or SingleGroup()
    with default_dtype(dtype), device:
        architecture = find_architecture(config.architecture)
        model = architecture(config, max_model_len, choose_format(device), ranks)
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.fill_(1)
            else:
                parameter.normal_(0, 0.02, generator=generator)
    model.finish()
    return model.eval()


def decode(llm: LLM, batch: int) -> float:
    """Milliseconds of a step."""
    engine = llm.engine
    params = SamplingParams(
        temperature=0,
        max_tokens=OUTPUT,
        ignore_eos=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
    steps: List[float] = []
    for run in range(2):
        generator = random.Random(0)
        for index in range(batch):
            prompt = [generator.randrange(VOCABULARY) for _ in range(PROMPT)]
            engine.add_request(f"{batch}, {run}, {index}", prompt, params)
        steps.clear()
        while engine.has_unfinished_requests:
            started = time.perf_counter()
            engine.step()
            steps.append(time.perf_counter() - started)
    return round(1e3 * statistics.median(steps[10 - OUTPUT : -4]), 3)


def offline(llm: LLM) -> int:
    """Output tokens per second."""
    seconds = 0.0
    params = SamplingParams(temperature=0.6, seed=1, max_tokens=OFFLINE_OUTPUT, ignore_eos=True)
    for run in range(3):
        generator = random.Random(run)
        prompts = [
            [generator.randrange(VOCABULARY) for _ in range(generator.randrange(100, 400))]
            for _ in range(OFFLINE)
        ]
        started = time.perf_counter()
        llm.generate(prompts, params)
        seconds = time.perf_counter() - started
    return round(OFFLINE * OFFLINE_OUTPUT / seconds)


def measure(folder: str, num_ranks: int, batches: List[int]) -> Dict[str, Any]:
    started = time.perf_counter()
    llm = LLM(folder, skip_tokenizer_init=True, num_kv_blocks=9000, tensor_parallel_size=num_ranks)
    found: Dict[str, Any] = {"start_s": round(time.perf_counter() - started, 1)}
    found["step_ms"] = {str(batch): decode(llm, batch) for batch in batches}
    found["offline_tokens_per_s"] = offline(llm)
    llm.engine.executor.close()
    del llm
    gc.collect()
    torch.cuda.empty_cache()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    parser.add_argument("--shape", choices=["8B", "14B", "70B"], default="14B")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64, 256])
    arguments = parser.parse_args()
    record = {"commit": commit(), "machine": machine(), "shape": arguments.shape, "ranks": {}}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(SHAPES[arguments.shape]))
        for num_ranks in arguments.ranks:
            found = measure(folder, num_ranks, arguments.batches)
            record["ranks"][str(num_ranks)] = found  # type: ignore[index]
            print(num_ranks, "ranks:", found, flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(record, indent=1) + "\n")


load.load_model = load_random_model  # type: ignore[assignment]
Processes.module = "benchmarks.cuda_ranks"

if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1].startswith("{"):
        serve.main()
    else:
        main()
