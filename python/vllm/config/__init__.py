"""Reads a model's configuration files. Does not import torch."""

from __future__ import annotations

from vllm.config.fields import ModelError, hint, is_present, read_json
from vllm.config.generation import GenerationDefaults
from vllm.config.model import DTYPES, ModelConfig, read_architecture
from vllm.config.rope import RopeConfig

__all__ = [
    "DTYPES",
    "GenerationDefaults",
    "ModelConfig",
    "ModelError",
    "RopeConfig",
    "hint",
    "is_present",
    "read_architecture",
    "read_json",
]
