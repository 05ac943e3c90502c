"""Packed and plain weights give the same products."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from vllm.layers.linear import Linear
from vllm.layers.weights import OneDNN, choose_format, onednn
from vllm.layers.weights.onednn import can_pack
from vllm.parallel.shard import Shard


@pytest.fixture(autouse=True)
def pack_everything(monkeypatch):
    monkeypatch.setattr(onednn, "MIN_ELEMENTS", 0)


TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 0.1}


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 65])
@torch.inference_mode()
def test_packing_changes_no_product(dtype, bias, rows):
    generator = torch.Generator().manual_seed(rows)
    layer = Linear(Shard.all(48), Shard.all(30), bias=bias, weights=OneDNN()).to(dtype)
    for parameter in layer.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    weight = layer.weight
    x = torch.randn(rows, 48, generator=generator).to(dtype)
    expected = functional.linear(x.double(), weight.double())
    if bias:
        expected += layer.bias.double()
    torch.testing.assert_close(layer(x).double(), expected, atol=TOLERANCES[dtype], rtol=0.01)
    layer.finish()
    assert (layer.weight is None) == can_pack(weight)
    torch.testing.assert_close(layer(x).double(), expected, atol=TOLERANCES[dtype], rtol=0.01)


@torch.inference_mode()
def test_small_weights_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(onednn, "MIN_ELEMENTS", 13)
    layer = Linear(Shard.all(4), Shard.all(3), weights=OneDNN())
    layer.weight.fill_(1)
    layer.finish()
    assert layer.weight is not None
    assert layer(torch.ones(2, 4)).tolist() == [[4.0] * 3] * 2


def test_what_cannot_be_packed():
    assert not can_pack(torch.zeros(2, 2, dtype=torch.float64))
    assert not can_pack(torch.zeros(2, 2, device="meta"))


def test_weights_are_packed_for_the_cpu_alone():
    assert isinstance(choose_format(torch.device("cpu")), OneDNN)
    assert not isinstance(choose_format(torch.device("cuda")), OneDNN)
