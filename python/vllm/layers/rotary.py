"""Rotary position embedding (RoPE), and its scaling to longer contexts.

The scaled frequencies follow the models' definitions: "llama3" Llama 3.1's reference code, "yarn"
the paper (Peng et al. 2023, arXiv:2309.00071).
"""

from __future__ import annotations

import math
from typing import Callable, Dict, Optional, Tuple

import torch
from torch import nn

from vllm.config import ModelError, RopeConfig


class RotaryEmbedding(nn.Module):
    """The table of a rotation of pairs of elements of each query and key head, by angles that grow
    with the position; see `ops.rotary_and_cache`.

    max_position: positions that the table covers; a position beyond it raises IndexError (CPU).
    """

    cos_sin_cache: torch.Tensor

    def __init__(self, head_size: int, max_position: int, rope: RopeConfig) -> None:
        super().__init__()
        table = cos_sin_table(head_size, max_position, rope)
        self.register_buffer("cos_sin_cache", torch.empty(table.shape), persistent=False)
        self.cos_sin_cache.copy_(table)


def cos_sin_table(head_size: int, max_position: int, rope: RopeConfig) -> torch.Tensor:
    """float32 [max_position, head_size]: each row has the cosines, then the sines, of its angles.

    Raises ModelError for an unknown type of scaling, or a missing parameter.
    """
    try:
        frequencies, attention_factor = _SCALINGS[rope.type](head_size, max_position, rope)
    except KeyError as error:
        if rope.type in _SCALINGS:
            raise ModelError(f"the {rope.type} rope scaling needs {error.args[0]}") from error
        raise ModelError(
            f"rope scaling {rope.type!r} is not supported; {', '.join(_SCALINGS)} are"
        ) from error
    positions = torch.arange(max_position, dtype=torch.float32, device="cpu")
    angles = torch.outer(positions, frequencies)
    return torch.cat((angles.cos(), angles.sin()), dim=-1) * attention_factor


_Scaled = Tuple[torch.Tensor, float]  # frequencies, and a factor for cosines and sines


def _exponents(head_size: int) -> torch.Tensor:
    steps = torch.arange(0, head_size, 2, dtype=torch.float32, device="cpu")
    return steps / head_size


def _default(head_size: int, max_position: int, rope: RopeConfig) -> _Scaled:
    return 1.0 / rope.theta ** _exponents(head_size), 1.0


def _linear(head_size: int, max_position: int, rope: RopeConfig) -> _Scaled:
    frequencies, _ = _default(head_size, max_position, rope)
    return frequencies / rope.scaling["factor"], 1.0


def _llama3(head_size: int, max_position: int, rope: RopeConfig) -> _Scaled:
    """Divides low frequencies by the factor, keeps high ones, interpolates those between."""
    frequencies, _ = _default(head_size, max_position, rope)
    scaling = rope.scaling
    factor = scaling["factor"]
    slow, fast = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = scaling["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    kept = ((turns - slow) / (fast - slow)).clamp(0, 1)
    return frequencies * (kept + (1 - kept) / factor), 1.0


def _yarn(head_size: int, max_position: int, rope: RopeConfig) -> _Scaled:
    """Like llama3, but interpolates by the index of the frequency, and scales attention."""
    frequencies, _ = _default(head_size, max_position, rope)
    scaling = rope.scaling
    factor = scaling["factor"]
    original = scaling["original_max_position_embeddings"]

    def index_of(turns: float) -> float:
        """The index of the frequency that makes this many turns in the original context."""
        wavelength = original / (turns * 2 * math.pi)
        return head_size * math.log(wavelength) / (2 * math.log(rope.theta))

    low = index_of(scaling.get("beta_fast") or 32)
    high = index_of(scaling.get("beta_slow") or 1)
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_size - 1)
    indices = torch.arange(head_size // 2, dtype=torch.float32, device="cpu")
    divided = ((indices - low) / max(high - low, 0.001)).clamp(0, 1)
    return frequencies * ((1 - divided) + divided / factor), _yarn_attention_factor(rope)


def _yarn_attention_factor(rope: RopeConfig) -> float:
    scaling = rope.scaling
    given: Optional[float] = scaling.get("attention_factor")
    if given is not None:
        return given

    def warmth(scale: float) -> float:
        return 0.1 * scale * math.log(scaling["factor"]) + 1.0 if scaling["factor"] > 1 else 1.0

    if scaling.get("mscale") and scaling.get("mscale_all_dim"):
        return warmth(scaling["mscale"]) / warmth(scaling["mscale_all_dim"])
    return warmth(1.0)


_SCALINGS: Dict[str, Callable[[int, int, RopeConfig], _Scaled]] = {
    "default": _default,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
}
