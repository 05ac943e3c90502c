"""The class of each architecture. To add one, add a file in this folder and a line here."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Type

from vllm.config import ModelError

if TYPE_CHECKING:
    from vllm.models.decoder import DecoderLM

# By the name in config.json's `architectures`: module and class.
ARCHITECTURES = {
    "LlamaForCausalLM": "vllm.models.llama:LlamaForCausalLM",
    "MistralForCausalLM": "vllm.models.mistral:MistralForCausalLM",
    "Qwen2ForCausalLM": "vllm.models.qwen2:Qwen2ForCausalLM",
    "Qwen3ForCausalLM": "vllm.models.qwen3:Qwen3ForCausalLM",
}


def find_architecture(name: str) -> Type[DecoderLM]:
    """The class for an architecture. Raises ModelError, listing the supported ones."""
    try:
        module, _, attribute = ARCHITECTURES[name].partition(":")
    except KeyError:
        raise ModelError(
            f"architecture {name!r} is not supported; {', '.join(ARCHITECTURES)} are"
        ) from None
    found: Type[DecoderLM] = getattr(importlib.import_module(module), attribute)
    return found
