"""Llama 2, 3 and 3.x, whose rope scaling `vllm.layers.rotary` knows."""

from __future__ import annotations

from vllm.config import ModelConfig
from vllm.models.decoder import DecoderLM


class LlamaForCausalLM(DecoderLM):
    """The plain decoder; biases only where config.json asks for them."""

    def __init__(self, config: ModelConfig, max_model_len: int) -> None:
        super().__init__(
            config,
            max_model_len,
            qkv_bias=config.attention_bias,
            output_bias=config.attention_bias,
            mlp_bias=config.mlp_bias,
        )
