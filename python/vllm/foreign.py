"""vLLM's arguments that this library does not implement: how each is handled.

A script written for vLLM runs if such an argument would change nothing here; otherwise an error
names the argument. docs/arguments.md is generated from these tables.
"""

from __future__ import annotations

import functools
import inspect
import logging
from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Tuple, Type, TypeVar, Union

from vllm.numbers import as_real

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Neutral:
    """Accepted only with values that need no missing feature; None is always accepted.

    why: what this library does not support, or does instead.
    """

    values: Tuple[Any, ...]
    why: str


@dataclass(frozen=True)
class Ignored:
    """Accepted with any value, and ignored.

    why: what it controls in vLLM.
    warn_of: a value that is logged as a warning.
    """

    why: str
    warn_of: Any = None


@dataclass(frozen=True)
class Renamed:
    """Has another name here."""

    name: str


Foreign = Union[Neutral, Ignored, Renamed]

_TENSOR_PARALLEL = "models are divided by `tensor_parallel_size` only"
_REPLICAS = "replicas are for servers: `vllm serve --data-parallel-size`"
_KV_STAYS = "the KV cache is not transferred between engines"
_RANKS = "processes are started by the engine, by torchrun or by Ray"
_RAY = 'it is `distributed_executor_backend="ray"`'
_NO_LORA = "there are no LoRA adapters"
_TEXT_ALONE = "models take text only"
_NO_SPECULATION = "there is no speculative decoding"
_WEIGHTS = "weights are read from safetensors files of a folder or of the hub"
_CONFIG = "config.json is used unchanged"
_KERNELS = "there is one implementation of each kernel"
_GENERATES = "models generate text; they do not embed, classify or score"
_GRAPHS = "how CUDA graphs are captured"
_SCHEDULER = "the engine has one scheduler"
_BEAMS = "beam search is `LLM.beam_search`"
_LOGITS = "logits cannot be changed by the caller"
_NO_PLUGINS = "plugins are not supported"

ENGINE: Mapping[str, Foreign] = {
    "pipeline_parallel_size": Neutral((1,), _TENSOR_PARALLEL),
    "data_parallel_size": Neutral(
        (1,), "replicas are for servers: `vllm serve --data-parallel-size`"
    ),
    "decode_context_parallel_size": Neutral((1,), _TENSOR_PARALLEL),
    "enable_expert_parallel": Neutral((False,), _TENSOR_PARALLEL),
    "worker_use_ray": Neutral((False,), _RAY),
    "worker_cls": Neutral(("auto",), _RANKS),
    "worker_extension_cls": Neutral(("",), _RANKS),
    "max_parallel_loading_workers": Ignored("how many processes read weights at a time"),
    "ray_workers_use_nsight": Ignored("profiling of Ray's workers"),
    "disable_custom_all_reduce": Ignored("how GPUs compute an all-reduce"),
    "trust_remote_code": Ignored(
        "code that comes with a model; it is never run here", warn_of=True
    ),
    "tokenizer_mode": Neutral(("auto", "hf", "fast"), "tokenizers are read from tokenizer.json"),
    "tokenizer_revision": Neutral((), "`revision` is that of the model and its tokenizer"),
    "code_revision": Ignored("the revision of code that comes with a model; it is never run here"),
    "hf_config_path": Neutral((), _CONFIG),
    "hf_overrides": Neutral(({},), _CONFIG),
    "rope_scaling": Neutral(({},), _CONFIG),
    "rope_theta": Neutral((), _CONFIG),
    "config_format": Neutral(("auto", "hf"), _CONFIG),
    "generation_config": Neutral(("auto",), "the model's generation_config.json is used"),
    "override_generation_config": Neutral(({},), "generation_config.json is used unchanged"),
    "hf_token": Neutral((), "the token is read from the environment (HF_TOKEN)"),
    "download_dir": Neutral((), "models are in the cache of huggingface_hub (HF_HOME)"),
    "load_format": Neutral(("auto", "safetensors"), _WEIGHTS),
    "safetensors_load_strategy": Ignored("how files are read"),
    "model_loader_extra_config": Neutral(({},), _WEIGHTS),
    "ignore_patterns": Neutral(([],), _WEIGHTS),
    "use_tqdm_on_load": Ignored("a progress bar"),
    "model_impl": Neutral(("auto", "vllm"), "models are this library's own"),
    "quantization": Neutral((), "weights are used in their own precision, or in `dtype`"),
    "kv_cache_dtype": Neutral(("auto",), "the cache has the precision of the model"),
    "calculate_kv_scales": Neutral((False,), "the cache has the precision of the model"),
    "swap_space": Ignored("memory for preempted requests, which are recomputed here"),
    "cpu_offload_gb": Neutral((0,), "weights stay on the device"),
    "num_gpu_blocks_override": Renamed("num_kv_blocks"),
    "num_lookahead_slots": Neutral((0,), _NO_SPECULATION),
    "speculative_config": Neutral((), _NO_SPECULATION),
    "speculative_model": Neutral((), _NO_SPECULATION),
    "num_speculative_tokens": Neutral((), _NO_SPECULATION),
    "max_seq_len_to_capture": Ignored(_GRAPHS),
    "max_context_len_to_capture": Ignored(_GRAPHS),
    "cuda_graph_sizes": Ignored(_GRAPHS),
    "compilation_config": Neutral(({}, 0), "models are not compiled"),
    "attention_backend": Neutral((), _KERNELS),
    "disable_cascade_attn": Ignored("a way to compute attention"),
    "disable_sliding_window": Neutral((False,), "windows are those of the model"),
    "prefix_caching_hash_algo": Neutral(("sha256",), "prefixes are hashed by SHA-256"),
    "preemption_mode": Neutral(("recompute",), "preempted requests are recomputed"),
    "scheduler_delay_factor": Neutral((0.0,), _SCHEDULER),
    "scheduler_cls": Neutral((), _SCHEDULER),
    "max_num_partial_prefills": Ignored("how prompts share a step"),
    "max_long_partial_prefills": Ignored("how prompts share a step"),
    "long_prefill_token_threshold": Ignored("how prompts share a step"),
    "num_scheduler_steps": Ignored("how often the scheduler runs"),
    "multi_step_stream_outputs": Ignored("how often outputs are returned"),
    "disable_async_output_proc": Ignored("when outputs are created"),
    "use_v2_block_manager": Ignored("which block manager is used"),
    "enable_lora": Neutral((False,), _NO_LORA),
    "max_loras": Ignored(_NO_LORA),
    "max_lora_rank": Ignored(_NO_LORA),
    "max_cpu_loras": Ignored(_NO_LORA),
    "lora_dtype": Ignored(_NO_LORA),
    "lora_modules": Neutral(([],), _NO_LORA),
    "fully_sharded_loras": Ignored(_NO_LORA),
    "enable_prompt_adapter": Neutral((False,), "there are no prompt adapters"),
    "limit_mm_per_prompt": Ignored("multimodal inputs; models take text only"),
    "mm_processor_kwargs": Neutral(({},), _TEXT_ALONE),
    "allowed_local_media_path": Neutral(("",), _TEXT_ALONE),
    "disable_mm_preprocessor_cache": Ignored("multimodal inputs; models take text only"),
    "enable_prompt_embeds": Neutral((False,), "prompts are text or token ids"),
    "task": Neutral(("auto", "generate"), _GENERATES),
    "runner": Neutral(("auto", "generate"), _GENERATES),
    "convert": Neutral(("auto", "none"), _GENERATES),
    "override_pooler_config": Neutral((), _GENERATES),
    "guided_decoding_backend": Ignored("the library that enforces a schema"),
    "logits_processors": Neutral(([],), _LOGITS),
    "logits_processor_pattern": Ignored("which logits processors a request may name"),
    "reasoning_parser": Neutral(("",), "`LLM` returns the text unparsed; see `vllm.text.parsing`"),
    "max_logprobs": Ignored("how many log-probabilities a request may have; up to 256 here"),
    "logprobs_mode": Neutral(
        ("raw_logprobs",), "they are computed before penalties and temperature"
    ),
    "served_model_name": Ignored("the name of a model in a server"),
    "disable_log_stats": Ignored("statistics in the log"),
    "disable_log_requests": Ignored("requests in the log; none is written here"),
    "enable_log_requests": Neutral((False,), "no prompt is written to the log"),
    "max_log_len": Ignored("how much of a prompt is written to the log; none is"),
    "engine_use_ray": Neutral((False,), _RAY),
    "kv_transfer_config": Neutral((), _KV_STAYS),
    "kv_events_config": Neutral((), _KV_STAYS),
    "otlp_traces_endpoint": Neutral((), "an engine sends no traces; `vllm serve` does"),
    "enable_sleep_mode": Neutral((False,), "an engine cannot be put to sleep; delete it"),
    "additional_config": Neutral(({},), "it is for hardware that is not supported"),
}

SAMPLING: Mapping[str, Foreign] = {
    "best_of": Neutral((1,), "request `n` outputs and choose among them"),
    "use_beam_search": Neutral((False,), _BEAMS),
    "length_penalty": Neutral((1.0,), _BEAMS),
    "early_stopping": Neutral((False,), _BEAMS),
    "logits_processors": Neutral(([],), _LOGITS),
    "guided_decoding": Neutral((), "it is called `structured_outputs` now"),
    "truncate_prompt_tokens": Neutral(
        (), "only `vllm serve` truncates prompts; pass the token ids to keep"
    ),
    "spaces_between_special_tokens": Ignored("spaces between special tokens"),
    "logprob_token_ids": Neutral(([],), "log-probabilities are those of the most likely tokens"),
    "flat_logprobs": Neutral((False,), "log-probabilities are one mapping per token"),
    "extra_args": Neutral(({},), "nothing reads them"),
    "thinking_token_budget": Neutral((-1,), "only the model ends its reasoning"),
    "repetition_detection": Neutral((), "use penalties against repetitions"),
    "skip_clone": Ignored("copies of the parameters"),
    "stream_interval": Neutral((1,), "each step gives an output"),
}

# Of LLM.generate, LLM.chat and LLM.beam_search.
CALLS: Mapping[str, Foreign] = {
    "lora_request": Neutral((), _NO_LORA),
    "prompt_adapter_request": Neutral((), "there are no prompt adapters"),
    "guided_options_request": Neutral((), "it is `structured_outputs` of SamplingParams now"),
    "concurrency_limit": Ignored("how many prompts are searched at a time"),
    "tokenization_kwargs": Neutral(({},), "tokenizer.json alone defines how text is tokenized"),
    "mm_processor_kwargs": Neutral(({},), _TEXT_ALONE),
    "chat_template_content_format": Neutral(
        ("auto",), "a message's form is fitted to the template, whichever it takes"
    ),
}


# Methods of vLLM's LLM that this one has not: why.
METHODS: Mapping[str, str] = {
    **dict.fromkeys(("encode", "embed", "classify", "reward", "score"), _GENERATES),
    **dict.fromkeys(("sleep", "wake_up"), "weights and KV cache stay on the device"),
    **dict.fromkeys(
        ("apply_model", "collective_rpc"), "no functions are sent to the processes of ranks"
    ),
    **dict.fromkeys(
        ("start_profile", "stop_profile"), "use torch.profiler around the calls of this LLM"
    ),
    "get_metrics": "metrics are those of a server: GET /metrics of `vllm serve`",
    "set_tokenizer": "the tokenizer is that of the model's folder, or of `tokenizer=...`",
}


# Of `vllm serve`, beside those of the engine.
SERVE: Mapping[str, Foreign] = {
    "enable_auto_tool_choice": Ignored("--tool-call-parser alone enables tool calls"),
    "tool_parser_plugin": Neutral(("",), _NO_PLUGINS),
    "reasoning_parser_plugin": Neutral(("",), _NO_PLUGINS),
    "middleware": Neutral(([],), _NO_PLUGINS),
    "tool_server": Neutral((), "the server calls no tools itself"),
    "exclude_tools_when_tool_choice_none": Ignored("with tool_choice none, templates get no tools"),
    "chat_template_content_format": Neutral(
        ("auto",), "a message's form is fitted to the template, whichever it takes"
    ),
    "prompt_adapters": Neutral(([],), "there are no prompt adapters"),
    "disable_frontend_multiprocessing": Ignored("whether the engine has a process of its own"),
    "headless": Neutral((False,), "engines are started by the server"),
    "uvicorn_log_level": Ignored("how much uvicorn writes to the log"),
    "log_config_file": Neutral((), "the log goes to standard error"),
    "enable_log_outputs": Neutral((False,), "no output is written to the log"),
    "enable_log_deltas": Ignored("outputs in the log; none is written here"),
    "disable_fastapi_docs": Ignored("documentation pages, which this server does not have"),
    "enable_prompt_tokens_details": Ignored("cached tokens in usage, which always has them"),
    "enable_server_load_tracking": Neutral((False,), "/metrics has the server's load"),
    "enable_force_include_usage": Neutral(
        (False,), "streams include usage only if `stream_options` requests it"
    ),
    "enable_tokenizer_info_endpoint": Neutral((False,), "there is no such path"),
    "ssl_ca_certs": Neutral((), "client certificates are not supported"),
    "ssl_cert_reqs": Neutral((0,), "client certificates are not supported"),
    "enable_ssl_refresh": Neutral((False,), "certificates are read once"),
    "h11_max_incomplete_event_size": Ignored("a limit of h11, an HTTP parser not used here"),
    "h11_max_header_count": Ignored("a limit of h11, an HTTP parser not used here"),
    "return_token_ids": Neutral((False,), "request logprobs with return_tokens_as_token_ids"),
}


def without_foreign(
    owner: str, table: Mapping[str, Foreign], given: Mapping[str, Any]
) -> Dict[str, Any]:
    """The arguments that are this library's own.

    owner: the name of the function or class, for messages.
    Raises ValueError for an argument that needs a missing feature.
    """
    own: Dict[str, Any] = {}
    for name, value in given.items():
        known = table.get(name)
        if isinstance(known, Renamed):
            if value is not None:
                own[known.name] = value
        elif isinstance(known, Ignored):
            if known.warn_of is not None and value == known.warn_of:
                logger.warning("%s=%r has no effect: %s", name, value, known.why)
        elif isinstance(known, Neutral):
            _refuse_unless_neutral(owner, name, value, known)
        else:
            own[name] = value
    return own


def _refuse_unless_neutral(owner: str, name: str, value: Any, known: Neutral) -> None:
    if value is None or any(_is_same(value, neutral) for neutral in known.values):
        return
    accepted = " or ".join(repr(each) for each in (*known.values, None))
    raise ValueError(f"{owner} takes {name} only as {accepted}, got {value!r}: {known.why}")


def _is_same(value: Any, neutral: Any) -> bool:
    number = as_real(value)
    if number is not None:
        return not isinstance(neutral, bool) and bool(number == neutral)
    return type(value) is type(neutral) and bool(value == neutral)


def takes_foreign(table: Mapping[str, Foreign]) -> Callable[[Type[T]], Type[T]]:
    """Lets a dataclass accept vLLM's other arguments too; its own fields take precedence."""

    def decorate(cls: Type[T]) -> Type[T]:
        made: Callable[..., None] = cls.__init__
        others = {n: f for n, f in table.items() if n not in inspect.signature(cls).parameters}

        @functools.wraps(made)
        def init(self: T, *args: Any, **kwargs: Any) -> None:
            made(self, *args, **without_foreign(type(self).__name__, others, kwargs))

        cls.__init__ = init  # type: ignore[method-assign,assignment]
        return cls

    return decorate
