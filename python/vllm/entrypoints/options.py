"""Command-line options from the fields of `EngineArgs` and `SamplingParams`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any, Dict, Iterable, Mapping, Optional, Tuple

from vllm.config import DTYPES
from vllm.engine_args import BACKENDS, SCHEDULING_POLICIES, EngineArgs
from vllm.sampling_params import SamplingParams

if TYPE_CHECKING:
    from vllm.llm import LLM

MODEL_HELP = "a model folder, or a hub id (organisation/name)"

# Group: field: how its option is read, and what --help says.
_ENGINE: Mapping[str, Mapping[str, Tuple[Dict[str, Any], str]]] = {
    "model": {
        "tokenizer": ({}, "folder or hub id of the tokenizer, if not the model's own"),
        "revision": ({}, "branch, tag or commit of a hub id"),
        "dtype": ({"choices": ("auto", *DTYPES)}, "auto is the model's own"),
        "device": ({}, "auto, cpu, cuda or cuda:N"),
        "max_model_len": ({"type": int}, "tokens of prompt and output together"),
        "tensor_parallel_size": ({"type": int}, "processes that hold the model together"),
        "distributed_executor_backend": (
            {"choices": BACKENDS},
            "who starts them: this process or torchrun (mp), or a cluster of Ray's (ray)",
        ),
        "seed": ({"type": int}, "where requests without a seed of their own get theirs from"),
    },
    "batches and cache": {
        "max_num_seqs": ({"type": int}, "sequences that run at the same time"),
        "max_num_batched_tokens": ({"type": int}, "tokens that a step computes"),
        "scheduling_policy": (
            {"choices": SCHEDULING_POLICIES},
            "fcfs: in the order of arrival (default); priority: the lowest `priority` first",
        ),
        "block_size": ({"type": int}, "tokens of a block of the cache"),
        "kv_cache_memory_bytes": ({"type": int}, "size of the cache"),
        "num_kv_blocks": ({"type": int}, "size of the cache, in blocks"),
        "gpu_memory_utilization": ({"type": float}, "fraction of the device's memory to use"),
        "enforce_eager": ({"action": "store_true"}, "use no CUDA graphs"),
    },
}
# What is on unless it is switched off.
_SWITCHES = {
    "prefix_caching": "share the cache of equal beginnings",
    "chunked_prefill": "split long prompts over steps",
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
    parser.add_argument("model", help=MODEL_HELP)
    add_engine_groups(parser)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The model by its place or by name, as `model_of` reads it."""
    parser.add_argument("model", nargs="?", help=MODEL_HELP)
    parser.add_argument("--model", dest="model_option", metavar="MODEL", help="the same")


def model_of(args: argparse.Namespace, command: str) -> str:
    """The model that was named. Raises ValueError for none, or two."""
    model: Optional[str] = args.model or args.model_option
    if model is None or (args.model and args.model_option not in (None, args.model)):
        raise ValueError(f"name one model: {command} MODEL, or --model MODEL")
    return model


def add_engine_groups(parser: argparse.ArgumentParser) -> None:
    """Every field of `EngineArgs` that is a value, but for the model."""
    for title, fields in _ENGINE.items():
        group = parser.add_argument_group(title)
        for name, (how, text) in fields.items():
            group.add_argument(option_of(name), default=None, help=text, **how)
    for name, text in _SWITCHES.items():
        field, words = f"enable_{name}", name.replace("_", "-")
        group.add_argument(
            option_of(field),
            dest=field,
            action="store_true",
            default=None,
            help=f"{text} (default)",
        )
        group.add_argument(
            f"--no-enable-{words}",
            f"--no-{words}",
            dest=field,
            action="store_false",
            help="do not",
        )


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "sampling", "what is not given is what the model's makers advise"
    )
    for name, (how, text) in _SAMPLING.items():
        group.add_argument(option_of(name), default=None, help=text, **how)
    group.add_argument("--ignore-eos", action="store_true", help="do not end where the model does")


def make_llm(args: argparse.Namespace, **overrides: Any) -> LLM:
    """The model that the options describe. Raises ValueError, as `LLM` does."""
    # Options out of their ranges are refused before torch takes seconds to load.
    fields = {**engine_fields(args), **overrides}
    EngineArgs(model=args.model, **fields)
    if sys.stderr.isatty():
        print(f"loading {args.model}", file=sys.stderr, flush=True)

    from vllm.llm import LLM

    return LLM(args.model, **fields)


def engine_fields(args: argparse.Namespace) -> Dict[str, Any]:
    """The fields of `EngineArgs` that were given, but for the model."""
    names = [name for fields in _ENGINE.values() for name in fields]
    return _given(args, [*names, *(f"enable_{name}" for name in _SWITCHES)])


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


def _given(args: argparse.Namespace, names: Iterable[str]) -> Dict[str, Any]:
    values = {name: getattr(args, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def option_of(name: str) -> str:
    return "--" + name.replace("_", "-")
