"""Qwen3: Qwen2 without its biases, and with a norm of each query and key head."""

from __future__ import annotations

from vllm.config import ModelConfig
from vllm.models.decoder import DecoderLM
from vllm.models.qwen2 import layer_windows


class Qwen3ForCausalLM(DecoderLM):
    """Heads are normalised before the rotary embedding; head_dim is config.json's own."""

    def __init__(self, config: ModelConfig, max_model_len: int) -> None:
        super().__init__(
            config,
            max_model_len,
            qkv_bias=config.attention_bias,
            output_bias=config.attention_bias,
            qk_norm=True,
            sliding_windows=layer_windows(config),
        )
