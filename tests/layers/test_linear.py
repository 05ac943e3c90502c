"""Linear layers with whole and sharded weights, separate and merged."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tests.parallel.support import run_ranks
from vllm.layers.activation import silu_and_mul
from vllm.layers.embedding import Embedding
from vllm.layers.linear import Linear, RowParallelLinear
from vllm.layers.norm import Normed, RMSNorm
from vllm.layers.weights import Dense
from vllm.parallel.group import SingleGroup
from vllm.parallel.shard import Shard, split


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def fill(layer, weights, biases):
    """Fills a layer as the loader does, from whole tensors by part."""
    for part, name, target in layer.targets():
        target.tensor.data.copy_((weights if name == "weight" else biases)[part][target.index])


def test_the_parts_of_a_merged_layer_are_views_of_it():
    layer = Linear(Shard.all(4), {"q_proj": Shard.all(3), "k_proj": Shard.all(2)}, bias=True)
    layer.weight.data.zero_()
    parts = dict(layer.split(layer.weight))
    assert {name: tuple(part.shape) for name, part in parts.items()} == {
        "q_proj": (3, 4),
        "k_proj": (2, 4),
    }
    parts["k_proj"].data.fill_(1)
    assert layer.weight.sum(1).tolist() == [0, 0, 0, 4, 4]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_divided_products_are_those_of_the_whole(size, bias):
    first, second = random(8, 12), random(6, 8, seed=1)
    biases = random(8, seed=2), random(6, seed=3)
    x = random(5, 12, seed=4)

    @torch.inference_mode()
    def of_rank(group):
        middle = split(8, group)
        one = Linear(Shard.all(12), middle, bias=bias)
        other = RowParallelLinear(middle, Shard.all(6), group, bias=bias)
        fill(one, {"": first}, {"": biases[0]})
        fill(other, {"": second}, {"": biases[1]})
        return other(one(x))

    chosen = biases if bias else (None, None)
    expected = functional.linear(functional.linear(x, first, chosen[0]), second, chosen[1])
    addends = torch.stack(run_ranks(size, of_rank))
    torch.testing.assert_close(addends.sum(0), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_norm_adds_what_all_ranks_have(size):
    addends, weight = [random(5, 8, seed=rank) for rank in range(size)], random(8, seed=9)
    before = random(5, 8, seed=8)

    @torch.inference_mode()
    def of_rank(group):
        norm = RMSNorm(8, 1e-6, group)
        norm.weight.copy_(weight)
        residual = before.clone()
        return norm.add(residual, addends[group.rank].clone()), residual

    expected = before + torch.stack(addends).sum(0)
    for normed, residual in run_ranks(size, of_rank):
        torch.testing.assert_close(residual, expected)
        mean = expected.pow(2).mean(-1, keepdim=True)
        torch.testing.assert_close(normed, expected / (mean + 1e-6).sqrt() * weight)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_divided_vocabulary_gives_the_rows_of_the_whole(size):
    table, ids = random(8, 16), torch.tensor([7, 0, 3, 4, 3])

    @torch.inference_mode()
    def of_rank(group):
        layer = Embedding(split(8, group), 16, group)
        fill(layer, {"": table}, {})
        return layer(ids)

    for result in run_ranks(size, of_rank):
        assert torch.equal(result, table[ids])


def test_one_rank_exchanges_nothing():
    x = random(2, 3)
    assert SingleGroup().all_reduce(x) is x
    assert SingleGroup().gather(x) is x


class Fusing(Dense):
    """Has a fused kernel for what it is told, and remembers what it was asked for."""

    def __init__(self, has):
        self.has = has
        self.asked = []

    def apply_fused(self, layer, x, bias=None, *, norm=None, gated=False, residual=None):
        asked = (norm is not None, gated)
        self.asked.append(asked)
        if asked != self.has:
            return None
        assert (asked, residual) == ((False, True), None)
        return silu_and_mul(self.apply(layer, x, bias))


@pytest.mark.parametrize("has", [(False, True), None])
def test_the_activation_is_fused_behind_an_exchange_too(has):
    """With several ranks the norm is computed with the sum, before the product."""
    weights, width = Fusing(has), Shard.all(6)
    layer = Linear(Shard.all(8), {"gate_proj": width, "up_proj": width}, weights=weights)
    layer.weight.data.copy_(random(12, 8))
    norm = RMSNorm(8, 1e-6)
    norm.weight.data.fill_(1)
    residual, delta = random(5, 8, seed=1), random(5, 8, seed=2)
    normed = norm(residual + delta)
    found = layer.gated_of(Normed(norm, residual, delta))
    torch.testing.assert_close(found, silu_and_mul(functional.linear(normed, layer.weight)))
    assert weights.asked == [(False, True)]
