"""Llama 2, 3 and 3.x; `vllm.layers.rotary` implements their RoPE scaling."""

from __future__ import annotations

from vllm.models.decoder import MLP, DecoderLayer, DecoderLM, ModelContext, SelfAttention


class LlamaForCausalLM(DecoderLM):
    """The plain decoder; biases only if config.json sets them."""

    @staticmethod
    def make_layer(context: ModelContext, index: int) -> DecoderLayer:
        config = context.config
        attention = SelfAttention(
            context, qkv_bias=config.attention_bias, output_bias=config.attention_bias
        )
        return DecoderLayer(context, attention, MLP(context, bias=config.mlp_bias))
