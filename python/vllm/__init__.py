"""LLM inference with precompiled C++ and CUDA code.

``import vllm`` is fast and needs neither torch nor a GPU: each name below is imported from its
module when it is first used.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Dict, List

__all__ = [
    "AsyncEngineArgs",
    "AsyncLLMEngine",
    "CompletionOutput",
    "EngineArgs",
    "LLM",
    "LLMEngine",
    "Logprob",
    "RequestOutput",
    "RequestOutputKind",
    "SamplingParams",
    "TextPrompt",
    "TokensPrompt",
    "__commit__",
    "__version__",
]

# name -> the module that defines it; the imports below are for type checkers
_LAZY: Dict[str, str] = {
    "AsyncEngineArgs": "vllm.engine_args",
    "AsyncLLMEngine": "vllm.engines",
    "CompletionOutput": "vllm.outputs",
    "EngineArgs": "vllm.engine_args",
    "LLM": "vllm.llm",
    "LLMEngine": "vllm.engines",
    "Logprob": "vllm.outputs",
    "RequestOutput": "vllm.outputs",
    "RequestOutputKind": "vllm.sampling_params",
    "SamplingParams": "vllm.sampling_params",
    "TextPrompt": "vllm.inputs",
    "TokensPrompt": "vllm.inputs",
    "__commit__": "vllm.version",
    "__version__": "vllm.version",
}

if TYPE_CHECKING:
    from vllm.engine_args import AsyncEngineArgs, EngineArgs
    from vllm.engines import AsyncLLMEngine, LLMEngine
    from vllm.inputs import TextPrompt, TokensPrompt
    from vllm.llm import LLM
    from vllm.outputs import CompletionOutput, Logprob, RequestOutput
    from vllm.sampling_params import RequestOutputKind, SamplingParams
    from vllm.version import __commit__, __version__
else:

    def __getattr__(name: str) -> object:
        module = _LAZY.get(name)
        if module is None:
            raise AttributeError(f"module 'vllm' has no attribute {name!r}")
        value = getattr(importlib.import_module(module), name)
        globals()[name] = value
        return value


def __dir__() -> List[str]:
    return sorted({*globals(), *_LAZY})


# On a machine with an NVIDIA driver: a torch without code for the GPU would fail later, with an
# error that does not say what to install.
if os.path.exists("/proc/driver/nvidia/version"):  # noqa: PTH110 (importing pathlib takes longer)
    from vllm.platform import warn_of_unfit_torch

    warn_of_unfit_torch()
