"""Tokens of a step, by model and device."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from tests.worker.test_kv_cache import CONFIG
from vllm.worker import budget

CUDA = torch.device("cuda", 0)
SMALL = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28}
MIDDLE = {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36}
LARGE = {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80}


def shaped(sizes):
    config = {**vars(CONFIG), "head_dim": 128, "num_key_value_heads": 8, **sizes}
    config["num_attention_heads"] = sizes["hidden_size"] // 64 if sizes is SMALL else 32
    return type(CONFIG)(**config)


def advised(monkeypatch, capability, multiprocessors, sizes, dtype=torch.bfloat16, ranks=1):
    major, minor = divmod(capability, 10)
    found = SimpleNamespace(major=major, minor=minor, multi_processor_count=multiprocessors)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: found)
    return budget.advise(shaped(sizes), dtype, CUDA, ranks)


def test_the_work_of_a_token_is_its_products():
    """Of Qwen3-8B: 6.95e9 weights in its layers, each multiplied and added once."""
    assert budget.flops_per_token(shaped(MIDDLE)) == pytest.approx(2 * 6.95e9, rel=0.01)


def test_a_faster_device_or_a_smaller_model_takes_more(monkeypatch):
    assert advised(monkeypatch, 90, 132, SMALL) == (8192, 8192)
    assert advised(monkeypatch, 90, 132, MIDDLE) == (4096, 8192)
    assert advised(monkeypatch, 90, 132, LARGE) == (2048, 2048)
    assert advised(monkeypatch, 90, 132, LARGE, ranks=8) == (2048, 8192)
    assert advised(monkeypatch, 90, 132, MIDDLE, ranks=2) == (8192, 8192)
    assert advised(monkeypatch, 80, 108, MIDDLE) == (2048, 2048)
    assert advised(monkeypatch, 75, 40, SMALL) == (2048, 8192)
    assert advised(monkeypatch, 90, 132, SMALL, torch.float32) == (2048, 2048)


def test_graphs_hold_what_python_launches_too_slowly(monkeypatch):
    def most(capability, multiprocessors, sizes, ranks=1):
        advised(monkeypatch, capability, multiprocessors, sizes)
        return budget.graph_tokens(shaped(sizes), CUDA, ranks)

    assert most(90, 132, SMALL) == 4096
    assert 256 < most(90, 132, MIDDLE) < 600
    assert 256 < most(75, 40, SMALL) < 600
    assert most(90, 132, SMALL, ranks=2) == 0
    assert budget.graph_tokens(shaped(SMALL), torch.device("cpu"), 1) == 0


def test_a_cpu_takes_the_least():
    assert budget.advise(CONFIG, torch.bfloat16, torch.device("cpu"), 1) == (2048, 2048)
