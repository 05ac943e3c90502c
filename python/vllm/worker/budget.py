"""The default token budgets of a step, for a model and a device."""

from __future__ import annotations

from typing import NamedTuple

import torch

from vllm.config import ModelConfig

_LEAST, _MOST = 2048, 8192
_MOST_IN_GRAPHS = 4096

# The longest steps: sequences that decode wait for the first; for the second, in which none does,
# only requests that arrive meanwhile.
_SECONDS, _PROMPT_SECONDS = 0.1, 0.25

# Peak rate of dense 16-bit matrix products, in TFLOP/s per multiprocessor, by the major version of
# the compute capability.
_RATES = {7: 1.5, 8: 1.7, 9: 7.5, 10: 15.0, 11: 15.0, 12: 1.7}
_RATE_8_0 = 2.9
_REACHED = 0.6  # the fraction of the peak that steps of many tokens reach

# The time that Python takes to launch a layer's kernels, beside an H200 and other work; on a calm
# machine it is half of that.
_LAUNCH_SECONDS = 3.3e-4


class Advice(NamedTuple):
    """Token budgets: of a step in which a sequence decodes, and of one in which none does."""

    tokens: int
    prompt_tokens: int


def advise(config: ModelConfig, dtype: torch.dtype, device: torch.device, ranks: int) -> Advice:
    """The default budgets. A larger one makes matrix products more efficient, but makes sequences
    that decode wait longer for a step with a prompt in it.

    The largest power of two, between `_LEAST` and `_MOST`, whose products take at most `_SECONDS`
    or `_PROMPT_SECONDS`. Above `_MOST`, products do not become more efficient.
    """
    if device.type != "cuda" or dtype.itemsize > 2:
        return Advice(_LEAST, _LEAST)
    per_second = _tokens_per_second(config, device) * ranks
    return Advice(_fitting(_SECONDS * per_second), _fitting(_PROMPT_SECONDS * per_second))


def _fitting(most: float) -> int:
    tokens = _LEAST
    while 2 * tokens <= min(most, _MOST):
        tokens *= 2
    return tokens


def graph_tokens(config: ModelConfig, device: torch.device, ranks: int) -> int:
    """The most tokens of a step that the device computes faster than Python launches its kernels:
    such steps become CUDA graphs. At most `_MOST_IN_GRAPHS`, since graphs hold memory; 0 on several
    ranks, whose larger sums are not captured."""
    if device.type != "cuda" or ranks > 1:
        return 0
    seconds = config.num_hidden_layers * _LAUNCH_SECONDS
    return min(_MOST_IN_GRAPHS, int(seconds * _tokens_per_second(config, device)))


def _tokens_per_second(config: ModelConfig, device: torch.device) -> float:
    found = torch.cuda.get_device_properties(device)
    rate = _RATE_8_0 if (found.major, found.minor) == (8, 0) else _RATES.get(found.major, 1.5)
    return 1e12 * rate * _REACHED * found.multi_processor_count / flops_per_token(config)


def flops_per_token(config: ModelConfig) -> int:
    """FLOPs of the matrix products of all layers, without attention and logits."""
    heads = 2 * config.num_attention_heads + 2 * config.num_key_value_heads
    layer = config.hidden_size * (heads * config.head_dim + 3 * config.intermediate_size)
    return 2 * config.num_hidden_layers * layer
