"""Qwen2 and Qwen2.5: biases on query, key and value; the upper layers may have a window."""

from __future__ import annotations

from vllm.config import ModelConfig
from vllm.models.decoder import MLP, DecoderLayer, DecoderLM, ModelContext, SelfAttention


class Qwen2ForCausalLM(DecoderLM):
    """Always with biases on query, key and value, and nowhere else."""

    @staticmethod
    def make_layer(context: ModelContext, index: int) -> DecoderLayer:
        window = layer_window(context.config, index)
        attention = SelfAttention(context, qkv_bias=True, sliding_window=window)
        return DecoderLayer(context, attention, MLP(context))


def layer_window(config: ModelConfig, index: int) -> int:
    """The sliding window of a layer, 0 where it attends to everything.

    config.json usually has a `sliding_window`; it counts where `use_sliding_window` is true, on
    the layers that `layer_types` says, or else on those from `max_window_layers` on.
    """
    if not config.use_sliding_window or not config.sliding_window:
        return 0
    if config.layer_types is not None:
        has_window = config.layer_types[index] == "sliding_attention"
    else:
        has_window = index >= config.max_window_layers
    return config.sliding_window if has_window else 0
