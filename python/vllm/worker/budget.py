"""The default token budget of a step, for a model and a device."""

from __future__ import annotations

import torch

from vllm.config import ModelConfig

_LEAST, _MOST = 2048, 8192

# The longest step: sequences that decode wait for it.
_SECONDS = 0.1

# Peak rate of dense 16-bit matrix products, in TFLOP/s per multiprocessor, by the major version of
# the compute capability.
_RATES = {7: 1.5, 8: 1.7, 9: 7.5, 10: 15.0, 11: 15.0, 12: 1.7}
_RATE_8_0 = 2.9
_REACHED = 0.6  # the fraction of the peak that steps of many tokens reach


def advised_tokens(
    config: ModelConfig, dtype: torch.dtype, device: torch.device, ranks: int
) -> int:
    """The token budget of a step. A larger one makes matrix products more efficient, but makes
    sequences that decode wait longer for a step with a prompt in it.

    The largest power of two, between `_LEAST` and `_MOST`, whose products take at most `_SECONDS`.
    Above `_MOST`, products do not become more efficient.
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
    """FLOPs of the matrix products of all layers, without attention and logits."""
    heads = 2 * config.num_attention_heads + 2 * config.num_key_value_heads
    layer = config.hidden_size * (heads * config.head_dim + 3 * config.intermediate_size)
    return 2 * config.num_hidden_layers * layer
