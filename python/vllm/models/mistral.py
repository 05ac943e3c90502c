"""Mistral: the plain decoder, whose layers may see only a window of the past."""

from __future__ import annotations

from vllm.config import ModelConfig
from vllm.models.decoder import DecoderLM


class MistralForCausalLM(DecoderLM):
    """A window on every layer, if config.json has one (7B v0.1 does, later ones do not)."""

    def __init__(self, config: ModelConfig, max_model_len: int) -> None:
        windows = [config.sliding_window or 0] * config.num_hidden_layers
        super().__init__(config, max_model_len, sliding_windows=windows)
