"""Command-line options from the fields of `EngineArgs` and `SamplingParams`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Dict, Mapping, Tuple

from vllm.config import DTYPES
from vllm.engine_args import EngineArgs
from vllm.sampling_params import SamplingParams

if TYPE_CHECKING:
    from vllm.llm import LLM

# Field: how its option is read, and what --help says.
_ENGINE: Mapping[str, Tuple[Dict[str, Any], str]] = {
    "tokenizer": ({}, "folder or hub id of the tokenizer, if not the model's own"),
    "revision": ({}, "branch, tag or commit of a hub id"),
    "dtype": ({"choices": ("auto", *DTYPES)}, "auto is the model's own"),
    "device": ({}, "auto, cpu, cuda or cuda:N"),
    "max_model_len": ({"type": int}, "tokens of prompt and output together"),
    "max_num_seqs": ({"type": int}, "sequences that run at the same time"),
    "max_num_batched_tokens": ({"type": int}, "tokens that a step computes"),
    "block_size": ({"type": int}, "tokens of a block of the cache"),
    "kv_cache_memory_bytes": ({"type": int}, "size of the cache"),
    "num_kv_blocks": ({"type": int}, "size of the cache, in blocks"),
    "gpu_memory_utilization": ({"type": float}, "fraction of the device's memory to use"),
    "seed": ({"type": int}, "where requests without a seed of their own get theirs from"),
}
_SAMPLING: Mapping[str, Tuple[Dict[str, Any], str]] = {
    "temperature": ({"type": float}, "0 is greedy"),
    "top_k": ({"type": int}, "draw among the k most likely tokens"),
    "top_p": ({"type": float}, "draw among the tokens that make up this probability"),
    "min_p": ({"type": float}, "draw among tokens at least this likely, to the likeliest"),
    "repetition_penalty": ({"type": float}, "above 1: against tokens of prompt and output"),
    "presence_penalty": ({"type": float}, "above 0: against tokens of the output"),
    "frequency_penalty": ({"type": float}, "above 0: the more often, the more"),
    "max_tokens": ({"type": int}, "tokens to generate at most"),
    "min_tokens": ({"type": int}, "tokens to generate at least"),
    "stop": ({"action": "append"}, "end the text before this; may be given several times"),
}


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """The model, and every field of `EngineArgs` that is a value."""
    parser.add_argument("model", help="a model folder, or a hub id (organisation/name)")
    group = parser.add_argument_group("engine")
    for name, (how, text) in _ENGINE.items():
        group.add_argument(_option(name), default=None, help=text, **how)
    group.add_argument("--no-prefix-caching", action="store_true", help="share no prefixes")
    group.add_argument(
        "--no-chunked-prefill", action="store_true", help="compute prompts in a single step"
    )


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "sampling", "what is not given is what the model's makers advise"
    )
    for name, (how, text) in _SAMPLING.items():
        group.add_argument(_option(name), default=None, help=text, **how)
    group.add_argument("--ignore-eos", action="store_true", help="do not end where the model does")


def make_llm(args: argparse.Namespace, **overrides: Any) -> LLM:
    """The model that the options describe. Raises ValueError, as `LLM` does."""
    fields = _given(args, _ENGINE)
    if args.no_prefix_caching:
        fields["enable_prefix_caching"] = False
    if args.no_chunked_prefill:
        fields["enable_chunked_prefill"] = False
    # Options out of their ranges are refused before torch takes seconds to load.
    fields.update(overrides)
    EngineArgs(model=args.model, **fields)

    from vllm.llm import LLM

    return LLM(args.model, **fields)


def check_sampling(args: argparse.Namespace) -> None:
    """Raises ValueError for options out of their ranges, before the model is loaded."""
    SamplingParams(**sampling_fields(args))


def sampling_fields(args: argparse.Namespace) -> Dict[str, Any]:
    """The sampling parameters that were given."""
    fields = _given(args, _SAMPLING)
    if args.ignore_eos:
        fields["ignore_eos"] = True
    # A command continues to the end of the text, where the library's default is a short sample.
    fields.setdefault("max_tokens", None)
    return fields


def _given(args: argparse.Namespace, names: Mapping[str, Any]) -> Dict[str, Any]:
    values = {name: getattr(args, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
