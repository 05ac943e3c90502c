"""Qwen2 and Qwen2.5: biases on query, key and value; the upper layers may have a window."""

from __future__ import annotations

from typing import List

from vllm.config import ModelConfig
from vllm.models.decoder import DecoderLM


class Qwen2ForCausalLM(DecoderLM):
    """Always with biases on query, key and value, and nowhere else."""

    def __init__(self, config: ModelConfig, max_model_len: int) -> None:
        windows = layer_windows(config)
        super().__init__(config, max_model_len, qkv_bias=True, sliding_windows=windows)


def layer_windows(config: ModelConfig) -> List[int]:
    """The sliding window of each layer, 0 where it attends to everything.

    config.json always has a `sliding_window`; it counts where `use_sliding_window` is true, on
    the layers that `layer_types` says, or else on those from `max_window_layers` on.
    """
    num_layers = config.num_hidden_layers
    if not config.use_sliding_window or not config.sliding_window:
        return [0] * num_layers
    if config.layer_types is not None:
        windowed = [kind == "sliding_attention" for kind in config.layer_types]
    else:
        # 28 is what the makers' code takes where config.json does not say.
        first = 28 if config.max_window_layers is None else config.max_window_layers
        windowed = [index >= first for index in range(num_layers)]
    return [config.sliding_window if has_window else 0 for has_window in windowed]
