"""How many tokens a step computes where nobody says so."""

from __future__ import annotations

import torch

from vllm.config import ModelConfig

_LEAST, _MOST = 2048, 8192

# A step may take about as long: those that generate wait for it.
_SECONDS = 0.1

# 16-bit products of dense matrices, 10^12 a second and multiprocessor, by compute capability.
_RATES = {7: 1.5, 8: 1.7, 9: 7.5, 10: 15.0, 11: 15.0, 12: 1.7}
_RATE_8_0 = 2.9
_REACHED = 0.6  # of that, by steps of many tokens


def advised_tokens(
    config: ModelConfig, dtype: torch.dtype, device: torch.device, ranks: int
) -> int:
    """Tokens of a step: the more, the better matrix products use a GPU, and the longer all others
    wait for a step that computes a prompt.

    As many as `_SECONDS` of products allow, a power of two between `_LEAST` and `_MOST`: beyond
    that, products gain nothing.
    """
    if device.type != "cuda" or dtype.itemsize > 2:
        return _LEAST
    found = torch.cuda.get_device_properties(device)
    rate = _RATE_8_0 if (found.major, found.minor) == (8, 0) else _RATES.get(found.major, 1.5)
    per_second = 1e12 * rate * _REACHED * found.multi_processor_count * ranks
    tokens, most = _LEAST, _SECONDS * per_second / flops_per_token(config)
    while 2 * tokens <= min(most, _MOST):
        tokens *= 2
    return tokens


def flops_per_token(config: ModelConfig) -> int:
    """Of the matrix products of all layers; attention and logits left out."""
    heads = 2 * config.num_attention_heads + 2 * config.num_key_value_heads
    layer = config.hidden_size * (heads * config.head_dim + 3 * config.intermediate_size)
    return 2 * config.num_hidden_layers * layer
