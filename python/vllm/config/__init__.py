"""What the configuration files of a model say. No torch in here."""

from __future__ import annotations

from vllm.config.fields import ModelError, read_json
from vllm.config.generation import GenerationDefaults
from vllm.config.model import DTYPES, ModelConfig, read_architecture
from vllm.config.rope import RopeConfig

__all__ = [
    "DTYPES",
    "GenerationDefaults",
    "ModelConfig",
    "ModelError",
    "RopeConfig",
    "read_architecture",
    "read_json",
]
