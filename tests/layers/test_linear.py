"""Packed and plain weights give the same products."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from vllm.layers import packed
from vllm.layers.embedding import Embedding
from vllm.layers.linear import Linear, MergedLinear
from vllm.layers.packed import PackedWeight


@pytest.fixture(autouse=True)
def pack_everything(monkeypatch):
    monkeypatch.setattr(packed, "MIN_ELEMENTS", 0)


TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 0.1}


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 65])
@torch.inference_mode()
def test_packing_changes_no_product(dtype, bias, rows):
    generator = torch.Generator().manual_seed(rows)
    layer = Linear(48, 30, bias=bias).to(dtype)
    for parameter in layer.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    weight = layer.weight
    x = torch.randn(rows, 48, generator=generator).to(dtype)
    expected = functional.linear(x.double(), weight.double())
    if bias:
        expected += layer.bias.double()
    for _ in range(2):
        torch.testing.assert_close(layer(x).double(), expected, atol=TOLERANCES[dtype], rtol=0.01)
        layer.pack()
        if not PackedWeight.can_hold(weight):
            break
        assert layer.weight is None


@torch.inference_mode()
def test_a_tied_head_packs_a_copy():
    embedding = Embedding(20, 16)
    embedding.weight.copy_(torch.randn(20, 16, generator=torch.Generator().manual_seed(0)))
    hidden = torch.randn(3, 16, generator=torch.Generator().manual_seed(1))
    plain = embedding.project(hidden)
    embedding.pack_for_project()
    torch.testing.assert_close(embedding.project(hidden), plain, atol=1e-5, rtol=0)
    assert torch.equal(embedding(torch.tensor([4])), embedding.weight[4:5])


def test_what_cannot_be_packed():
    assert not PackedWeight.can_hold(torch.zeros(2, 2, dtype=torch.float64))
    assert not PackedWeight.can_hold(torch.zeros(2, 2, device="meta"))


def test_the_parts_of_a_merged_layer_are_views_of_it():
    layer = MergedLinear(4, {"q_proj": 3, "k_proj": 2}, bias=True)
    layer.weight.data.zero_()
    parts = dict(layer.split(layer.weight))
    assert {name: tuple(part.shape) for name, part in parts.items()} == {
        "q_proj": (3, 4),
        "k_proj": (2, 4),
    }
    parts["k_proj"].data.fill_(1)
    assert layer.weight.sum(1).tolist() == [0, 0, 0, 4, 4]
