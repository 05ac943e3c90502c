"""Qwen3: Qwen2 without biases, and with a norm of each query and key head."""

from __future__ import annotations

from vllm.models.decoder import MLP, DecoderLayer, DecoderLM, ModelContext, SelfAttention
from vllm.models.qwen2 import layer_window


class Qwen3ForCausalLM(DecoderLM):
    """Each query and key head is normalised before the rotary embedding."""

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
