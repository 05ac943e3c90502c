"""Tokens per second on the CPU, beside transformers: the same weights, dtype, threads and tokens.

    python benchmarks/cpu_throughput.py small
    python benchmarks/cpu_throughput.py half-billion --dtype bfloat16 --batch-sizes 8 16

The workload is 64 requests with prompts of 32 to 512 tokens and outputs of 32 to 256, all known
beforehand. transformers runs it twice: `generate` on batches sorted by length, for each batch size,
and its continuous batching (which wants psutil). Static batching also computes padding, before
short prompts and after short outputs: "waste" is what it computes over what was asked for.

On a machine that does other things too, run it with one thread and compare by CPU time.

Writes the figures to cpu_throughput_MODEL_DTYPE_THREADS.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import torch
import transformers
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, Qwen2Config

from vllm import LLM, SamplingParams

MODELS = {
    "small": LlamaConfig(
        vocab_size=32000,
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=2048,
        eos_token_id=None,
        bos_token_id=None,
    ),
    # The shape of Qwen2.5-0.5B: 494 million parameters.
    "half-billion": Qwen2Config(
        vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        eos_token_id=None,
        bos_token_id=None,
    ),
}

Request = Tuple[List[int], int]  # prompt, tokens to generate


def make_workload(vocab_size: int, count: int, seed: int = 0) -> List[Request]:
    generator = random.Random(seed)

    def request() -> Request:
        length = generator.randint(32, 512)
        prompt = [generator.randrange(vocab_size) for _ in range(length)]
        return prompt, generator.randint(32, 256)

    return [request() for _ in range(count)]


def run_ours(llm: LLM, workload: List[Request]) -> int:
    prompts = [prompt for prompt, _ in workload]
    params = [SamplingParams(temperature=0, max_tokens=n, ignore_eos=True) for _, n in workload]
    outputs = llm.generate(prompts, params)
    return sum(len(output.outputs[0].token_ids) for output in outputs)


@torch.inference_mode()
def run_static(model: Any, workload: List[Request], batch_size: int) -> int:
    """Batches of similar lengths, padded on the left, each run to its longest output."""
    ordered = sorted(workload, key=lambda request: len(request[0]))
    generated = 0
    for start in range(0, len(ordered), batch_size):
        batch = ordered[start : start + batch_size]
        width = max(len(prompt) for prompt, _ in batch)
        ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt, _ in batch])
        mask = torch.tensor(
            [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt, _ in batch]
        )
        longest = max(count for _, count in batch)
        model.generate(
            ids, attention_mask=mask, max_new_tokens=longest, do_sample=False, pad_token_id=0
        )
        generated += sum(count for _, count in batch)
    return generated


def static_slots(workload: List[Request], batch_size: int) -> int:
    """Token positions that `run_static` computes, padding included."""
    ordered = sorted(workload, key=lambda request: len(request[0]))
    batches = [ordered[i : i + batch_size] for i in range(0, len(ordered), batch_size)]
    return sum(
        len(batch) * (max(len(p) for p, _ in batch) + max(n for _, n in batch)) for batch in batches
    )


def run_continuous(model: Any, workload: List[Request]) -> int:
    """transformers' own continuous batching, each request to its own length."""
    config = GenerationConfig(do_sample=False, max_new_tokens=256, eos_token_id=-1, pad_token_id=0)
    generated = 0
    with model.continuous_batching_context_manager(generation_config=config, block=True) as manager:
        for prompt, count in workload:
            manager.add_request(prompt, max_new_tokens=count)
        left = len(workload)
        while left:
            result = manager.get_result(timeout=300)
            if result is None:
                raise RuntimeError(f"transformers gave nothing for 300 s, {left} requests are left")
            if result.is_finished():
                generated += len(result.generated_tokens)
                left -= 1
    return generated


def measure(run: Callable[[], int], workload: List[Request], repeats: int) -> Dict[str, Any]:
    """The best of several runs, which other work on the machine has disturbed least."""
    expected = sum(count for _, count in workload)
    tokens = expected + sum(len(prompt) for prompt, _ in workload)
    seconds, cpu_seconds = [], []
    for _ in range(repeats):
        started, cpu_started = time.perf_counter(), time.process_time()
        generated = run()
        seconds.append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - cpu_started)
        if generated != expected:
            raise RuntimeError(f"generated {generated} tokens, not the {expected} asked for")
    return {
        "seconds": [round(value, 3) for value in seconds],
        "cpu_seconds": [round(value, 3) for value in cpu_seconds],
        "total_tokens_per_second": round(tokens / min(seconds), 1),
        "total_tokens_per_cpu_second": round(tokens / min(cpu_seconds), 1),
    }


def measure_single(llm: LLM, model: Any, repeats: int) -> Dict[str, float]:
    """Milliseconds per token of one request: 128 tokens of prompt, 64 generated."""
    prompt = make_workload(llm.engine.model_config.vocab_size, 1, seed=1)[0][0][:128]

    def ours(count: int) -> None:
        llm.generate(prompt, SamplingParams(temperature=0, max_tokens=count, ignore_eos=True))

    def theirs(count: int) -> None:
        with torch.inference_mode():
            model.generate(
                torch.tensor([prompt]), max_new_tokens=count, do_sample=False, pad_token_id=0
            )

    figures = {}
    for name, run in (("vllm", ours), ("transformers", theirs)):
        times = []
        for _ in range(repeats):
            marks = [time.perf_counter()]
            for count in (1, 65):
                run(count)
                marks.append(time.perf_counter())
            # What 65 tokens take beyond one: 64 steps of decoding, the prefill left out.
            times.append((marks[2] - marks[1] - (marks[1] - marks[0])) / 64 * 1e3)
        figures[f"{name}_ms_per_token"] = round(statistics.median(times), 3)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-continuous", action="store_true", help="leave out transformers' own")
    args = parser.parse_args()

    os.environ["VLLM_CPU_THREADS"] = str(args.threads)
    torch.set_num_threads(args.threads)
    config = MODELS[args.model]
    workload = make_workload(config.vocab_size, args.requests)
    dtype = getattr(torch, args.dtype)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        llm = LLM(
            folder,
            skip_tokenizer_init=True,
            kv_cache_memory_bytes=4 << 30,
            max_model_len=1024,
            enable_prefix_caching=False,
        )
    results: Dict[str, Any] = {
        "model": args.model,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": args.dtype,
        "threads": {"torch": torch.get_num_threads(), "vllm": args.threads},
        "processor": platform.processor() or platform.machine(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "requests": args.requests,
        "prompt_tokens": sum(len(prompt) for prompt, _ in workload),
        "output_tokens": sum(count for _, count in workload),
    }
    run_ours(llm, workload[:2])
    ours = results["vllm"] = measure(lambda: run_ours(llm, workload), workload, args.repeats)
    report("vllm", ours)
    for batch_size in args.batch_sizes:
        name = f"transformers_static_{batch_size}"
        static = measure(
            lambda size=batch_size: run_static(model, workload, size), workload, args.repeats
        )
        tokens = results["prompt_tokens"] + results["output_tokens"]
        static["waste"] = round(static_slots(workload, batch_size) / tokens, 3)
        results[name] = static
        report(name, static, ours)
    results["single_request"] = measure_single(llm, model, args.repeats)
    print(f"{'one request':28} {results['single_request']}")
    write(args, results)  # what comes next takes long, and may fail
    if not args.no_continuous:
        continuous = measure(lambda: run_continuous(model, workload), workload, 1)
        results["transformers_continuous"] = continuous
        report("transformers_continuous", continuous, ours)
    write(args, results)


def write(args: argparse.Namespace, results: Dict[str, Any]) -> None:
    stem = f"cpu_throughput_{args.model}_{args.dtype}_{args.threads}"
    path = Path(__file__).with_name(f"{stem}.json")
    path.write_text(json.dumps(results, indent=1) + "\n")


def report(name: str, figures: Dict[str, Any], ours: Dict[str, Any] | None = None) -> None:
    wall, cpu = (figures[f"total_tokens_per_{unit}"] for unit in ("second", "cpu_second"))
    line = f"{name:26} {wall:9.1f} tokens/s {cpu:9.1f} tokens/CPU s"
    if ours is not None:
        by_wall = ours["total_tokens_per_second"] / wall
        by_cpu = ours["total_tokens_per_cpu_second"] / cpu
        line += f"   vllm is {by_wall:5.2f} x, by CPU time {by_cpu:5.2f} x"
    if "waste" in figures:
        line += f"; padding {figures['waste']:.2f} x"
    print(line, flush=True)


if __name__ == "__main__":
    main()
