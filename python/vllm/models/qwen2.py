"""Qwen2 and Qwen2.5: biases on query, key and value; upper layers may have a sliding window."""

from __future__ import annotations

from vllm.config import ModelConfig
from vllm.models.decoder import MLP, DecoderLayer, DecoderLM, ModelContext, SelfAttention


class Qwen2ForCausalLM(DecoderLM):
    """Biases on query, key and value only."""

    @staticmethod
    def make_layer(context: ModelContext, index: int) -> DecoderLayer:
        window = layer_window(context.config, index)
        attention = SelfAttention(context, qkv_bias=True, sliding_window=window)
        return DecoderLayer(context, attention, MLP(context))


def layer_window(config: ModelConfig, index: int) -> int:
    """The sliding window of a layer, 0 for full attention.

    `sliding_window` in config.json applies only if `use_sliding_window` is true: to the layers that
    `layer_types` lists, or without that to those from `max_window_layers` on.
    """
    if not config.use_sliding_window or not config.sliding_window:
        return 0
    if config.layer_types is not None:
        has_window = config.layer_types[index] == "sliding_attention"
    else:
        has_window = index >= config.max_window_layers
    return config.sliding_window if has_window else 0
