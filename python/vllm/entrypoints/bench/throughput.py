"""``vllm bench throughput``: tokens per second of a large batch of requests."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

from vllm.entrypoints.bench.datasets import (
    SampleRequest,
    TokensAlone,
    add_dataset_options,
    check_dataset,
    make_samples,
)
from vllm.entrypoints.bench.figures import spread
from vllm.sampling_params import SamplingParams

HELP = "tokens per second of a large batch of requests"
# Keys of `--output-json` that vLLM has, too.
VLLMS = (
    "elapsed_time",
    "num_requests",
    "total_num_tokens",
    "requests_per_second",
    "tokens_per_second",
    "total_prompt_tokens",
    "total_output_tokens",
    "output_tokens_per_second",
)


def add_options(parser: argparse.ArgumentParser, group: Any) -> None:
    add_dataset_options(
        parser, with_seed=False
    )  # --seed is the engine's, and also used for prompts
    parser.set_defaults(dataset_name=None)
    group.add_argument("--dataset", dest="dataset_path", type=Path, help=argparse.SUPPRESS)
    group.add_argument("--input-len", type=int, metavar="N", help="alias of --random-input-len")
    group.add_argument(
        "--output-len", type=int, metavar="N", help="tokens of every answer, for all datasets"
    )
    group.add_argument("--prefix-len", type=int, metavar="N", help="alias of --random-prefix-len")


def check(args: argparse.Namespace) -> None:
    """Resolves aliases of options. Raises ValueError."""
    for name, others in (
        ("input_len", ("random_input_len",)),
        ("output_len", ("random_output_len", "sharegpt_output_len", "custom_output_len")),
        ("prefix_len", ("random_prefix_len",)),
    ):
        value = getattr(args, name)
        if value is None:
            continue
        if value < (name != "prefix_len"):
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
        for other in others:
            setattr(args, other, value)
    if args.dataset_name is None:
        args.dataset_name = "random" if args.dataset_path is None else "sharegpt"
    check_dataset(args)


def measure(args: argparse.Namespace, llm: Any) -> Dict[str, Any]:
    """Runs all requests as one batch; rates are over its whole duration."""
    args.seed = args.seed or 0
    tokenizer = llm.engine.tokenizer or TokensAlone(llm.engine.model_config.vocab_size)
    samples: List[SampleRequest] = make_samples(args, tokenizer, as_text=False)
    params = [
        SamplingParams(
            n=args.n,
            temperature=1.0,
            ignore_eos=True,
            max_tokens=sample.output_len,
            detokenize=not args.disable_detokenize,
        )
        for sample in samples
    ]
    # Warm-up: touches the weights, and runs one-time initialization.
    llm.generate([0], SamplingParams(max_tokens=2, ignore_eos=True))
    prompts = [sample.prompt for sample in samples]
    started = time.perf_counter()
    outputs = llm.generate(prompts, params, use_tqdm=sys.stderr.isatty())
    seconds = time.perf_counter() - started
    num_input = sum(len(output.prompt_token_ids) for output in outputs)
    num_output = sum(len(each.token_ids) for output in outputs for each in output.outputs)
    first = [o.metrics.first_token_time - o.metrics.arrival_time for o in outputs]
    whole = [o.metrics.finished_time - o.metrics.arrival_time for o in outputs]
    return {
        "elapsed_time": seconds,
        "num_requests": len(samples),
        "total_num_tokens": num_input + num_output,
        "requests_per_second": len(samples) / seconds,
        "tokens_per_second": (num_input + num_output) / seconds,
        "total_prompt_tokens": num_input,
        "total_output_tokens": num_output,
        "output_tokens_per_second": num_output / seconds,
        "preemptions": sum(o.metrics.num_preemptions for o in outputs),
        **spread("first_token_seconds", first),
        **spread("request_seconds", whole),
    }


def in_vllms_words(figures: Dict[str, Any]) -> List[str]:
    """The lines of vLLM's output, which scripts may parse."""
    return [
        f"Throughput: {figures['requests_per_second']:.2f} requests/s, "
        f"{figures['tokens_per_second']:.2f} total tokens/s, "
        f"{figures['output_tokens_per_second']:.2f} output tokens/s",
        f"Total num prompt tokens:  {figures['total_prompt_tokens']}",
        f"Total num output tokens:  {figures['total_output_tokens']}",
    ]
