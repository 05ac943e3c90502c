"""Qwen3: Qwen2 without its biases, and with a norm of each query and key head."""

from __future__ import annotations

from vllm.models.decoder import MLP, DecoderLayer, DecoderLM, ModelContext, SelfAttention
from vllm.models.qwen2 import layer_window


class Qwen3ForCausalLM(DecoderLM):
    """Heads are normalised before the rotary embedding; head_dim is config.json's own."""

    @staticmethod
    def make_layer(context: ModelContext, index: int) -> DecoderLayer:
        config = context.config
        attention = SelfAttention(
            context,
            qkv_bias=config.attention_bias,
            output_bias=config.attention_bias,
            qk_norm=True,
            sliding_window=layer_window(config, index),
        )
        return DecoderLayer(context, attention, MLP(context))
