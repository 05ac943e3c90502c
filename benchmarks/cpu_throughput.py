"""Tokens per second on the CPU, compared with transformers: same weights, dtype, threads, tokens.

    python -m benchmarks.cpu_throughput small
    python -m benchmarks.cpu_throughput half-billion --requests 12 --batch-sizes 4 12

The workload is 64 requests with prompts of 32 to 512 tokens and outputs of 32 to 256, submitted at
once; `--requests N` uses only the first N, for large models.
transformers runs it in two ways: `generate` on batches sorted by length, for each batch size, and
its continuous batching (which needs psutil). Static batching also computes padding, before short
prompts and after short outputs: "waste" is the ratio of computed to requested tokens.

Each contender runs once per round, in a rotating order, so that other load affects all equally;
medians are compared. Goals: 0.9 × waste times the best
static batch, 1.2 times continuous batching, and one request alone no slower.

On a machine that does other things too, take one thread: with two, each product waits at a barrier
of OpenMP's for a thread that has no processor, and both sides take many times as long.

Writes the figures to cpu_throughput_MODEL_DTYPE_THREADS.json beside this file, after each round.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import torch
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, Qwen2Config

from benchmarks import cpu_machine
from vllm import LLM, SamplingParams

WHOLE_WORKLOAD = 64
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
Counts = Tuple[int, int]  # tokens of prompts and of outputs, without padding
Figures = Dict[str, Any]


def make_workload(vocab_size: int, count: int, seed: int = 0) -> List[Request]:
    generator = random.Random(seed)

    def request() -> Request:
        length = generator.randint(32, 512)
        prompt = [generator.randrange(vocab_size) for _ in range(length)]
        return prompt, generator.randint(32, 256)

    return [request() for _ in range(count)]


def run_ours(llm: LLM, workload: List[Request]) -> Counts:
    prompts = [prompt for prompt, _ in workload]
    params = [SamplingParams(temperature=0, max_tokens=n, ignore_eos=True) for _, n in workload]
    outputs = llm.generate(prompts, params)
    return (
        sum(len(output.prompt_token_ids) for output in outputs),
        sum(len(output.outputs[0].token_ids) for output in outputs),
    )


def in_batches(workload: List[Request], batch_size: int) -> List[List[Request]]:
    ordered = sorted(workload, key=lambda request: len(request[0]))
    return [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]


@torch.inference_mode()
def run_static(model: Any, workload: List[Request], batch_size: int) -> Counts:
    """Batches of similar lengths, padded on the left, each run to its longest output."""
    prompt_tokens = output_tokens = 0
    for batch in in_batches(workload, batch_size):
        width = max(len(prompt) for prompt, _ in batch)
        padding = [width - len(prompt) for prompt, _ in batch]
        ids = torch.tensor([[0] * pad + prompt for pad, (prompt, _) in zip(padding, batch)])
        mask = torch.tensor([[0] * pad + [1] * (width - pad) for pad in padding])
        longest = max(count for _, count in batch)
        rows = model.generate(
            ids, attention_mask=mask, max_new_tokens=longest, do_sample=False, pad_token_id=0
        )
        for row, (prompt, count) in zip(rows, batch):
            prompt_tokens += len(prompt)
            output_tokens += min(count, len(row) - width)
    return prompt_tokens, output_tokens


def static_waste(workload: List[Request], batch_size: int) -> float:
    """The ratio of token positions that `run_static` computes (with padding) to requested ones."""
    computed = sum(
        len(batch) * (max(len(prompt) for prompt, _ in batch) + max(count for _, count in batch))
        for batch in in_batches(workload, batch_size)
    )
    return computed / sum(len(prompt) + count for prompt, count in workload)


def run_continuous(model: Any, workload: List[Request]) -> Counts:
    """transformers' own continuous batching, each request to its own length."""
    config = GenerationConfig(do_sample=False, max_new_tokens=256, eos_token_id=-1, pad_token_id=0)
    prompt_tokens = output_tokens = 0
    with model.continuous_batching_context_manager(generation_config=config, block=True) as manager:
        for prompt, count in workload:
            manager.add_request(prompt, max_new_tokens=count)
        left = len(workload)
        while left:
            result = manager.get_result(timeout=300)
            if result is None:
                raise RuntimeError(f"transformers gave nothing for 300 s, {left} requests are left")
            if result.is_finished():
                prompt_tokens += len(result.prompt_ids)
                output_tokens += len(result.generated_tokens)
                left -= 1
    return prompt_tokens, output_tokens


def decode_ours(llm: LLM, prompt: List[int], count: int) -> None:
    llm.generate(prompt, SamplingParams(temperature=0, max_tokens=count, ignore_eos=True))


@torch.inference_mode()
def decode_theirs(model: Any, prompt: List[int], count: int) -> None:
    model.generate(torch.tensor([prompt]), max_new_tokens=count, do_sample=False, pad_token_id=0)


def measure(run: Callable[[], Counts], expected: Counts, figures: Figures) -> None:
    """Adds one run to the figures of a peer."""
    started, cpu_started = time.perf_counter(), time.process_time()
    counts = run()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    if counts != expected:
        raise RuntimeError(f"computed {counts} tokens of prompts and outputs, not {expected}")
    figures["prompt_tokens"], figures["output_tokens"] = counts
    figures.setdefault("seconds", []).append(round(seconds, 3))
    figures.setdefault("cpu_seconds", []).append(round(cpu_seconds, 3))
    figures["total_tokens_per_second"] = rate(sum(counts), figures["seconds"])
    figures["total_tokens_per_cpu_second"] = rate(sum(counts), figures["cpu_seconds"])


def rate(tokens: int, seconds: List[float]) -> float:
    return round(tokens / statistics.median(seconds), 1)


def measure_decode(decode: Callable[[int], None]) -> float:
    """Milliseconds per token of one request without prefill: the time of 65 tokens minus of 1."""
    marks = [time.perf_counter()]
    for count in (1, 65):
        decode(count)
        marks.append(time.perf_counter())
    return round((marks[2] - marks[1] - (marks[1] - marks[0])) / 64 * 1e3, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--requests", type=int, default=WHOLE_WORKLOAD)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--continuous-rounds", type=int, default=1, help="rounds that have transformers' own too"
    )
    args = parser.parse_args()

    os.environ["VLLM_CPU_THREADS"] = str(args.threads)
    torch.set_num_threads(args.threads)
    config = MODELS[args.model]
    workload = make_workload(config.vocab_size, args.requests)
    expected = (sum(len(prompt) for prompt, _ in workload), sum(count for _, count in workload))
    model, llm = make_both(config, getattr(torch, args.dtype))

    peers: Dict[str, Callable[[], Counts]] = {"vllm": lambda: run_ours(llm, workload)}
    for size in args.batch_sizes:
        name = f"transformers_static_{size}"
        peers[name] = lambda size=size: run_static(model, workload, size)
    continuous = "transformers_continuous"
    peers[continuous] = lambda: run_continuous(model, workload)

    results: Figures = {
        **cpu_machine.describe(),
        "model": args.model,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": args.dtype,
        "threads": {"torch": torch.get_num_threads(), "vllm": args.threads},
        "requests": args.requests,
        "workload": "whole" if args.requests == WHOLE_WORKLOAD else "reduced, to save time",
        "peers": {name: {} for name in peers},
    }
    for size in args.batch_sizes:
        waste = round(static_waste(workload, size), 3)
        results["peers"][f"transformers_static_{size}"]["waste"] = waste
    one = make_workload(config.vocab_size, 1, seed=1)[0][0][:128]
    alone: Dict[str, Callable[[int], None]] = {
        "vllm": lambda count: decode_ours(llm, one, count),
        "transformers": lambda count: decode_theirs(model, one, count),
    }
    for decode in alone.values():  # touches the weights
        decode(2)
    single = results["single_request_ms_per_token"] = {name: [] for name in alone}

    names = list(peers)
    for number in range(max(args.rounds, args.continuous_rounds)):
        turned = names[number % len(names) :] + names[: number % len(names)]
        for name in turned:
            if number < (args.continuous_rounds if name == continuous else args.rounds):
                measure(peers[name], expected, results["peers"][name])
                seconds = results["peers"][name]["seconds"][-1]
                print(f"round {number + 1}: {name} {seconds} s", flush=True)
                write(args, results)  # the next run may take long or fail
        for name, decode in alone.items():
            single[name].append(measure_decode(decode))
        results["load_average_at_the_end"] = round(os.getloadavg()[0], 2)
        results["compared"] = compare(results)
        write(args, results)
    report(results)


def make_both(config: Any, dtype: torch.dtype) -> Tuple[Any, LLM]:
    """The same random weights, in transformers and here."""
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
    return model, llm


def compare(results: Figures) -> Figures:
    """The speed of vllm relative to the peers, and the goals."""
    peers = {name: peer for name, peer in results["peers"].items() if "seconds" in peer}
    ours = peers["vllm"]["total_tokens_per_second"]
    static = {name: peer for name, peer in peers.items() if "waste" in peer}
    best = max(static, key=lambda name: static[name]["total_tokens_per_second"])
    single = results["single_request_ms_per_token"]
    medians = {name: statistics.median(times) for name, times in single.items()}
    compared = {
        "best_static": best,
        "over_best_static": ours / static[best]["total_tokens_per_second"],
        "goal_over_best_static": 0.9 * static[best]["waste"],
        "single_request": medians["transformers"] / medians["vllm"],
        "goal_single_request": 1.0,
    }
    continuous = peers.get("transformers_continuous")
    if continuous:
        compared["over_continuous"] = ours / continuous["total_tokens_per_second"]
        compared["goal_over_continuous"] = 1.2
    return {k: v if isinstance(v, str) else round(v, 2) for k, v in compared.items()}


def write(args: argparse.Namespace, results: Figures) -> None:
    stem = f"cpu_throughput_{args.model}_{args.dtype}_{args.threads}"
    path = Path(__file__).with_name(f"{stem}.json")
    path.write_text(json.dumps(results, indent=1) + "\n")


def report(results: Figures) -> None:
    columns = ("prompt_tokens", "output_tokens", "total_tokens_per_second", "waste")
    print(f"{'':26}", *(f"{name.replace('_', ' '):>24}" for name in columns))
    for name, peer in results["peers"].items():
        if "seconds" in peer:
            print(f"{name:26}", *(f"{peer.get(column, 1.0):24}" for column in columns))
    for name, times in results["single_request_ms_per_token"].items():
        print(f"one request, {name}: {statistics.median(times):.2f} ms per token")
    print(json.dumps(results["compared"], indent=1))


if __name__ == "__main__":
    main()
