"""Handles options of vLLM's ``vllm bench`` that this library does not implement."""

from __future__ import annotations

from typing import Mapping

from vllm.foreign import Foreign, Ignored, Neutral

_ONE_LIBRARY = "only this library is measured"
_NO_PROFILER = "no profiler is started: run the command under one"
_NO_LORA = "there are no LoRA adapters"
_TEXT_ALONE = "models accept only text"
_HUB = "prompts come from files: `--dataset-path`"

_DATASETS: Mapping[str, Foreign] = {
    "hf_name": Neutral((), _HUB),
    "hf_output_len": Neutral((), _HUB),
    "hf_split": Neutral((), _HUB),
    "hf_subset": Neutral((), _HUB),
    "lora_path": Neutral((), _NO_LORA),
    "random_batch_size": Neutral((1,), "a request has one prompt"),
    "random_mm_base_items_per_request": Neutral((0,), _TEXT_ALONE),
}

# Of `bench throughput` and `bench latency`, in addition to the engine's.
OFFLINE: Mapping[str, Foreign] = {
    **_DATASETS,
    "async_engine": Neutral(
        (False,), "the event loop is measured with its server: `vllm bench serve`"
    ),
    "backend": Neutral(("vllm",), _ONE_LIBRARY),
    "disable_frontend_multiprocessing": Ignored("whether the engine runs in a separate process"),
    "hf_max_batch_size": Neutral((), _ONE_LIBRARY),
    "profile": Neutral((False,), _NO_PROFILER),
}

# Of `bench serve`.
SERVE: Mapping[str, Foreign] = {
    **_DATASETS,
    "lora_modules": Neutral(([],), _NO_LORA),
    "plot_timeline": Neutral((False,), "figures are text and JSON"),
    "profile": Neutral((False,), _NO_PROFILER),
    "tokenizer_mode": Neutral(("auto", "hf", "fast"), "tokenizers are read from tokenizer.json"),
    "trust_remote_code": Ignored(
        "code in a model's repository, which is never run here", warn_of=True
    ),
    "use_beam_search": Neutral((False,), "a server has no beam search"),
}
