"""``vllm bench latency``: the latency of a batch of requests."""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from typing import Any, Dict, List

from vllm.entrypoints.bench.figures import percentile, spread
from vllm.sampling_params import BeamSearchParams, SamplingParams

HELP = "the latency of a batch of requests"
# Keys of `--output-json` that vLLM has, too.
VLLMS = ("avg_latency", "std_latency", "latencies", "percentiles")
_PERCENTILES = (10, 25, 50, 75, 90, 99)
_LENGTHS = ("input_len", "output_len", "batch_size", "num_iters")


def add_options(parser: argparse.ArgumentParser, group: Any) -> None:
    del parser
    for name, default, text in (
        ("input-len", 32, "tokens of a prompt"),
        ("output-len", 128, "tokens to generate"),
        ("batch-size", 8, "prompts per batch"),
        ("num-iters", 30, "batches to measure"),
        ("num-iters-warmup", 10, "batches before, for warm-up"),
    ):
        group.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{text} ({default})"
        )
    group.add_argument(
        "--use-beam-search",
        action="store_true",
        help="beam search with --n beams, instead of sampling",
    )


def check(args: argparse.Namespace) -> None:
    """Raises ValueError for options that are out of range."""
    for name in (*_LENGTHS, "num_iters_warmup"):
        least = 1 if name in _LENGTHS else 0
        if getattr(args, name) < least:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} must be at least {least}, got {getattr(args, name)}")
    if args.enable_prefix_caching is None:
        # No batch may hit the prefix cache of the previous one.
        args.enable_prefix_caching = False


def measure(args: argparse.Namespace, llm: Any) -> Dict[str, Any]:
    """Runs the batches one after another, after those for warm-up."""
    from tqdm import tqdm  # not needed by `vllm collect-env`, which must always work

    first: List[float] = []
    between: List[float] = []
    whole: List[float] = []
    counts = range(-args.num_iters_warmup, args.num_iters)
    for number in tqdm(counts, unit="batch", disable=not sys.stderr.isatty()):
        prompts = _prompts(args, llm, number)
        started = time.perf_counter()
        times = _search(args, llm, prompts) if args.use_beam_search else _draw(args, llm, prompts)
        seconds = time.perf_counter() - started
        if number >= 0:
            first += [each - started for each in times[:1]]
            between += [1000 * (after - before) for before, after in zip(times, times[1:])]
            whole.append(seconds)
    ordered = sorted(whole)
    return {
        "avg_latency": statistics.fmean(whole),
        "std_latency": statistics.pstdev(whole),
        "latencies": whole,
        "percentiles": {str(p): percentile(ordered, p) for p in _PERCENTILES},
        **spread("first_token_seconds", first),
        **spread("next_token_milliseconds", between),
    }


def _prompts(args: argparse.Namespace, llm: Any, number: int) -> List[List[int]]:
    """Random tokens, determined by the seed and the number of the batch."""
    generator = random.Random(f"{args.seed or 0} {number}")
    vocab_size = llm.engine.model_config.vocab_size
    return [
        [generator.randrange(vocab_size) for _ in range(args.input_len)]
        for _ in range(args.batch_size)
    ]


def _draw(args: argparse.Namespace, llm: Any, prompts: List[List[int]]) -> List[float]:
    """The times of the first token of the batch, the second, and so on."""
    params = SamplingParams(
        n=args.n,
        temperature=1.0,
        ignore_eos=True,
        max_tokens=args.output_len,
        detokenize=not args.disable_detokenize,
    )
    times: List[float] = []
    for output in llm.stream(prompts, params):
        if len(output.outputs[0].token_ids) > len(times):
            times.append(time.perf_counter())
    return times


def _search(args: argparse.Namespace, llm: Any, prompts: List[List[int]]) -> List[float]:
    """Beam search returns whole results: there are no times of single tokens."""
    params = BeamSearchParams(beam_width=args.n, max_tokens=args.output_len, ignore_eos=True)
    llm.beam_search(prompts, params)
    return []


def in_vllms_words(figures: Dict[str, Any]) -> List[str]:
    """The lines of vLLM's output, which scripts may parse."""
    return [
        f"Avg latency: {figures['avg_latency']} seconds",
        f"Std latency: {figures['std_latency']} seconds",
        *(
            f"{p}% percentile latency: {value} seconds"
            for p, value in figures["percentiles"].items()
        ),
    ]
