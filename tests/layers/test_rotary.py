"""The table of angles, against transformers' for each kind of scaling."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from vllm.config import ModelError, RopeConfig
from vllm.layers.rotary import cos_sin_table

SCALINGS = [
    ("default", {}),
    ("linear", {"factor": 4.0}),
    (
        "llama3",
        {
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ),
    ("yarn", {"factor": 4.0, "original_max_position_embeddings": 64}),
    (
        "yarn",
        {
            "factor": 8.0,
            "original_max_position_embeddings": 32,
            "beta_fast": 16,
            "beta_slow": 2,
            "mscale": 0.7,
            "mscale_all_dim": 1.1,
        },
    ),
    ("yarn", {"factor": 4.0, "original_max_position_embeddings": 64, "attention_factor": 0.9}),
    ("yarn", {"factor": 4.0, "original_max_position_embeddings": 64, "truncate": False}),
]


@pytest.mark.parametrize(("kind", "scaling"), SCALINGS)
@pytest.mark.parametrize("theta", [10000.0, 500000.0])
def test_table_equals_transformers(kind, scaling, theta):
    head_size, length = 32, 256
    config = LlamaConfig(
        hidden_size=4 * head_size,
        num_attention_heads=4,
        max_position_embeddings=length,
        rope_parameters={"rope_type": kind, "rope_theta": theta, **scaling},
    )
    positions = torch.arange(length)[None]
    cos, sin = LlamaRotaryEmbedding(config)(torch.zeros(1), positions)
    half = head_size // 2
    table = cos_sin_table(head_size, length, RopeConfig(theta, kind, scaling))
    torch.testing.assert_close(table[:, :half], cos[0, :, :half], atol=2e-5, rtol=0)
    torch.testing.assert_close(table[:, half:], sin[0, :, :half], atol=2e-5, rtol=0)


def test_first_angles_by_hand():
    table = cos_sin_table(4, 3, RopeConfig(theta=100.0))
    angles = [[p * f for f in (1.0, 0.1)] for p in range(3)]
    expected = [[*map(math.cos, row), *map(math.sin, row)] for row in angles]
    torch.testing.assert_close(table, torch.tensor(expected))


def test_unknown_scaling_and_missing_parameters_are_named():
    with pytest.raises(ModelError, match="rope scaling 'longrope' is not supported; default, lin"):
        cos_sin_table(8, 4, RopeConfig(type="longrope"))
    with pytest.raises(ModelError, match="the llama3 rope scaling needs low_freq_factor"):
        cos_sin_table(8, 4, RopeConfig(type="llama3", scaling={"factor": 2.0}))
