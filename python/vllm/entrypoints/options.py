"""Command-line options from the fields of `EngineArgs` and `SamplingParams`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Mapping, Optional, Tuple

from vllm.config import DTYPES
from vllm.engine_args import BACKENDS, SCHEDULING_POLICIES, EngineArgs
from vllm.sampling_params import SamplingParams

if TYPE_CHECKING:
    from vllm.llm import LLM

MODEL_HELP = "a model folder, or a hub id (organisation/name)"

# vLLM's short names of options.
_SHORT = {
    "tensor_parallel_size": "-tp",
    "data_parallel_size": "-dp",
    "pipeline_parallel_size": "-pp",
    "quantization": "-q",
}

# Group -> field -> (arguments of add_argument, help text).
_ENGINE: Mapping[str, Mapping[str, Tuple[Dict[str, Any], str]]] = {
    "model": {
        "tokenizer": ({}, "folder or hub id of the tokenizer, if not the model's own"),
        "revision": ({}, "branch, tag or commit of a hub id"),
        "dtype": ({"choices": ("auto", *DTYPES)}, "auto (default): the model's own"),
        "device": ({}, "cpu, cuda, cuda:N, or auto (default): cuda if torch finds a GPU"),
        "max_model_len": (
            {"type": int},
            "maximum number of tokens of prompt and output together (the model's own)",
        ),
        "tensor_parallel_size": (
            {"type": int},
            "number of processes (GPUs) that the model is divided among (1)",
        ),
        "distributed_executor_backend": (
            {"choices": BACKENDS},
            "who starts them: this process or torchrun (mp, default), or a Ray cluster (ray)",
        ),
        "seed": ({"type": int}, "the seed from which requests without one derive theirs (0)"),
    },
    "batches and cache": {
        "max_num_seqs": ({"type": int}, "maximum number of running sequences (256)"),
        "max_num_batched_tokens": (
            {"type": int},
            "maximum number of tokens of a step (2048 to 8192, by model and device)",
        ),
        "scheduling_policy": (
            {"choices": SCHEDULING_POLICIES},
            "fcfs: in the order of arrival (default); priority: the lowest `priority` first",
        ),
        "block_size": ({"type": int}, "tokens per KV block (16)"),
        "kv_cache_memory_bytes": (
            {"type": int},
            "size of the KV cache, per rank (what --gpu-memory-utilization leaves)",
        ),
        "num_kv_blocks": ({"type": int}, "size of the KV cache in blocks, instead"),
        "gpu_memory_utilization": (
            {"type": float},
            "fraction of the GPU's memory to use (0.9); on the CPU, of the free memory",
        ),
        "enforce_eager": ({"action": "store_true"}, "use no CUDA graphs"),
    },
}
# Switches that are on by default.
_SWITCHES = {
    "prefix_caching": "let prompts with a common prefix share its KV blocks",
    "chunked_prefill": "split long prompts over several steps",
}
_SAMPLING: Mapping[str, Tuple[Dict[str, Any], str]] = {
    "temperature": ({"type": float}, "0: greedy; above 0: higher is more random"),
    "top_k": ({"type": int}, "sample from the k most likely tokens"),
    "top_p": ({"type": float}, "sample from the most likely tokens with this total probability"),
    "min_p": ({"type": float}, "sample from tokens with this fraction of the highest probability"),
    "repetition_penalty": ({"type": float}, "above 1: penalises tokens of prompt and output"),
    "presence_penalty": ({"type": float}, "above 0: penalises tokens of the output"),
    "frequency_penalty": ({"type": float}, "above 0: penalises them once per occurrence"),
    "max_tokens": (
        {"type": int},
        "maximum number of generated tokens (as many as fit, or the server's default)",
    ),
    "min_tokens": ({"type": int}, "minimum number of generated tokens"),
    "stop": ({"action": "append"}, "end the text before this string; may be given several times"),
}


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """The model, and options for fields of `EngineArgs`."""
    parser.add_argument("model", help=MODEL_HELP)
    add_engine_groups(parser)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The model as a positional argument or as --model; `model_of` reads it."""
    parser.add_argument("model", nargs="?", help=MODEL_HELP)
    parser.add_argument(
        "--model", dest="model_option", metavar="MODEL", help="the same as the positional argument"
    )


def model_of(args: argparse.Namespace, command: str) -> str:
    """The given model. Raises ValueError for none, or two."""
    model: Optional[str] = args.model or args.model_option
    if model is None or (args.model and args.model_option not in (None, args.model)):
        raise ValueError(f"name one model: {command} MODEL, or --model MODEL")
    return model


def add_engine_groups(parser: argparse.ArgumentParser) -> None:
    """Options for fields of `EngineArgs`, except the model."""
    for title, fields in _ENGINE.items():
        group = parser.add_argument_group(title)
        for name, (how, text) in fields.items():
            group.add_argument(*options_of(name), default=None, help=text, **how)
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
            help=f"do not {text}",
        )


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "sampling", "defaults are those of the model's generation_config.json"
    )
    for name, (how, text) in _SAMPLING.items():
        group.add_argument(option_of(name), default=None, help=text, **how)
    group.add_argument(
        "--ignore-eos", action="store_true", help="continue past end-of-sequence tokens"
    )


def make_llm(args: argparse.Namespace, **overrides: Any) -> LLM:
    """Loads the model. Raises ValueError, as `LLM` does."""
    # Validate options first: importing torch takes seconds.
    fields = {**engine_fields(args), **overrides}
    EngineArgs(model=args.model, **fields)
    if sys.stderr.isatty():
        print(f"loading {args.model}", file=sys.stderr, flush=True)

    from vllm.llm import LLM

    return LLM(args.model, **fields)


def engine_fields(args: argparse.Namespace) -> Dict[str, Any]:
    """The fields of `EngineArgs` that were given, except the model."""
    names = [name for fields in _ENGINE.values() for name in fields]
    return _given(args, [*names, *(f"enable_{name}" for name in _SWITCHES)])


def check_sampling(args: argparse.Namespace) -> None:
    """Validates sampling options before the model is loaded. Raises ValueError."""
    SamplingParams(**sampling_fields(args))


def sampling_fields(args: argparse.Namespace) -> Dict[str, Any]:
    """The sampling parameters that were given."""
    fields = _given(args, _SAMPLING)
    if args.ignore_eos:
        fields["ignore_eos"] = True
    # Commands generate until the text ends; the library's default is 16 tokens.
    fields.setdefault("max_tokens", None)
    return fields


def _given(args: argparse.Namespace, names: Iterable[str]) -> Dict[str, Any]:
    values = {name: getattr(args, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def option_of(name: str) -> str:
    return "--" + name.replace("_", "-")


def options_of(name: str) -> List[str]:
    """The option of a field, and its short name if it has one."""
    return [option_of(name), *([_SHORT[name]] if name in _SHORT else [])]
