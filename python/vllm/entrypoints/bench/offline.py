"""``vllm bench throughput|latency``: the library, by itself, on random tokens."""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from vllm.entrypoints.options import add_engine_options, make_llm
from vllm.sampling_params import SamplingParams


def configure(kinds: Any) -> None:
    """Adds both commands to those of ``vllm bench``."""
    throughput = kinds.add_parser("throughput", help="tokens per second of many requests at once")
    throughput.add_argument("--num-prompts", type=int, default=64)
    throughput.set_defaults(measure=measure_throughput, defaults=("32-512", "32-256"))
    latency = kinds.add_parser("latency", help="times of a batch from its first token to its last")
    latency.add_argument("--batch-size", type=int, default=1)
    latency.add_argument("--iterations", "--num-iters", type=int, default=5)
    latency.add_argument(
        "--num-iters-warmup", type=int, default=1, help="not counted, before those"
    )
    latency.set_defaults(measure=measure_latency, defaults=("128", "64"))
    for kind in (throughput, latency):
        add_engine_options(kind)
        kind.add_argument("--input-len", help="tokens per prompt: a number, or a range as 32-512")
        kind.add_argument("--output-len", help="tokens to generate, likewise")
        kind.add_argument(
            "--json", "--output-json", type=Path, metavar="FILE", help="write the figures there too"
        )
        kind.set_defaults(bench=run)


def run(args: argparse.Namespace) -> int:
    for name in ("num_prompts", "batch_size", "iterations", "num_iters_warmup"):
        if getattr(args, name, 1) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1")
    if args.json and not args.json.parent.is_dir():
        raise ValueError(f"--json: there is no folder {args.json.parent}")
    input_len = parse_range("--input-len", args.input_len or args.defaults[0])
    output_len = parse_range("--output-len", args.output_len or args.defaults[1])
    # Prompts of one round are not to be found in the cache of the round before.
    args.enable_prefix_caching = False
    llm = make_llm(args, skip_tokenizer_init=True)
    figures = args.measure(args, llm, input_len, output_len)
    for name, value in figures.items():
        shown = f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"
        print(f"{name.replace('_', ' '):32} {shown:>12}")
    print(_in_vllms_words(figures))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def _in_vllms_words(figures: Dict[str, float]) -> str:
    """The line by which scripts find vLLM's own result."""
    if "requests_per_second" in figures:
        return (
            f"Throughput: {figures['requests_per_second']:.2f} requests/s, "
            f"{figures['total_tokens_per_second']:.2f} total tokens/s, "
            f"{figures['output_tokens_per_second']:.2f} output tokens/s"
        )
    return f"Avg latency: {figures['batch_seconds_mean']} seconds"


def measure_throughput(
    args: argparse.Namespace, llm: Any, input_len: Tuple[int, int], output_len: Tuple[int, int]
) -> Dict[str, float]:
    """Runs all requests at once; rates are over the time from the first to the last token."""
    prompts, params = random_requests(llm, args.num_prompts, input_len, output_len)
    llm.generate(prompts[0], SamplingParams(max_tokens=2, ignore_eos=True))  # touches the weights
    started = time.perf_counter()
    outputs = llm.generate(prompts, params, use_tqdm=sys.stderr.isatty())
    seconds = time.perf_counter() - started
    num_input = sum(map(len, prompts))
    num_output = sum(len(output.outputs[0].token_ids) for output in outputs)
    first = [o.metrics.first_token_time - o.metrics.arrival_time for o in outputs]
    whole = [o.metrics.finished_time - o.metrics.arrival_time for o in outputs]
    return {
        "requests": len(prompts),
        "input_tokens": num_input,
        "output_tokens": num_output,
        "seconds": seconds,
        "requests_per_second": len(prompts) / seconds,
        "output_tokens_per_second": num_output / seconds,
        "total_tokens_per_second": (num_input + num_output) / seconds,
        "preemptions": sum(o.metrics.num_preemptions for o in outputs),
        **percentiles("first_token_seconds", first),
        **percentiles("request_seconds", whole),
    }


def measure_latency(
    args: argparse.Namespace, llm: Any, input_len: Tuple[int, int], output_len: Tuple[int, int]
) -> Dict[str, float]:
    """Runs one batch after another, after some that are not counted."""
    from tqdm import tqdm  # not needed by `vllm collect-env`, which must always work

    first: List[float] = []
    between: List[float] = []
    whole: List[float] = []
    for iteration in tqdm(
        range(-args.num_iters_warmup, args.iterations), disable=not sys.stderr.isatty()
    ):
        prompts, params = random_requests(llm, args.batch_size, input_len, output_len, iteration)
        started = last = time.perf_counter()
        times: List[float] = []
        for output in llm.stream(prompts, params):
            if len(output.outputs[0].token_ids) > len(times):  # the first of the batch to get there
                now = time.perf_counter()
                times.append(now - last)
                last = now
        if iteration >= 0:
            first.append(times[0])
            between += times[1:]
            whole.append(time.perf_counter() - started)
    return {
        **percentiles("first_token_seconds", first),
        **percentiles("next_token_milliseconds", [1000 * value for value in between]),
        **percentiles("batch_seconds", whole),
        "batch_seconds_mean": sum(whole) / len(whole),
    }


def random_requests(
    llm: Any, count: int, input_len: Tuple[int, int], output_len: Tuple[int, int], seed: int = 0
) -> Tuple[List[List[int]], List[SamplingParams]]:
    """Prompts of random tokens, and how long each goes on; the same for the same seed."""
    generator = random.Random(seed)
    vocab_size = llm.engine.model_config.vocab_size
    prompts, params = [], []
    for _ in range(count):
        length = generator.randint(*input_len)
        prompts.append([generator.randrange(vocab_size) for _ in range(length)])
        tokens = generator.randint(*output_len)
        params.append(SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True))
    return prompts, params


def parse_range(option: str, text: str) -> Tuple[int, int]:
    """ "32" or "32-512", each at least 1."""
    low, dash, high = text.partition("-")
    try:
        ends = int(low), int(high if dash else low)
    except ValueError:
        ends = 0, 0
    if not 1 <= ends[0] <= ends[1]:
        raise ValueError(f"{option} must be at least 1, or a range as 32-512, got {text!r}")
    return ends


def percentiles(name: str, values: Sequence[float]) -> Dict[str, float]:
    """The 50th, 90th and 99th percentile, each a value that was measured."""
    ordered = sorted(values)
    if not ordered:
        return {}
    last = len(ordered) - 1
    return {f"{name}_p{p}": ordered[min(len(ordered) * p // 100, last)] for p in (50, 90, 99)}
