"""Storage formats of the weights of linear layers: one format per file."""

from __future__ import annotations

import torch

from vllm.layers.weights.dense import Dense
from vllm.layers.weights.format import Target, WeightFormat
from vllm.layers.weights.layer import WeightedLayer
from vllm.layers.weights.onednn import OneDNN

__all__ = ["Dense", "OneDNN", "Target", "WeightFormat", "WeightedLayer", "choose_format"]


def choose_format(device: torch.device) -> WeightFormat:
    """The fastest format for unquantized weights on a device."""
    return OneDNN() if device.type == "cpu" else Dense()
