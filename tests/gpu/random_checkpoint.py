"""Checkpoints of random weights for a configuration, for tests that need a certain shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import torch
from safetensors.torch import save_file

from vllm.config import ModelConfig
from vllm.layers.weights import Dense
from vllm.models.loader import checkpoint_targets, default_dtype
from vllm.models.registry import find_architecture
from vllm.parallel.group import SingleGroup


def write_checkpoint(path: Path, config: Dict[str, Any], deviation: float) -> str:
    """Writes config.json and normally distributed bfloat16 weights; returns the path."""
    (path / "config.json").write_text(json.dumps(config))
    read = ModelConfig.read(path)
    with default_dtype(torch.bfloat16):
        model = find_architecture(read.architecture)(read, 64, Dense(), SingleGroup())
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: (torch.randn(target.shape, generator=generator) * deviation).bfloat16()
        for name, target in checkpoint_targets(model).items()
    }
    save_file(weights, path / "model.safetensors")
    return str(path)
