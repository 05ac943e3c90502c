"""How the weights of matrix products are stored: one format per file."""

from __future__ import annotations

import torch

from vllm.layers.weights.dense import Dense
from vllm.layers.weights.format import Target, WeightFormat
from vllm.layers.weights.onednn import OneDNN

__all__ = ["Dense", "OneDNN", "Target", "WeightFormat", "choose_format"]


def choose_format(device: torch.device) -> WeightFormat:
    """The fastest format there is on a device, of weights that are not quantized."""
    return OneDNN() if device.type == "cpu" else Dense()
