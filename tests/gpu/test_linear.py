"""Products of many rows, which cuBLAS adds to the residual stream."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from vllm.layers.linear import RowParallelLinear  # noqa: E402
from vllm.parallel.group import SingleGroup  # noqa: E402
from vllm.parallel.shard import Shard  # noqa: E402

INPUTS, OUTPUTS = 256, 192


def draw(*shape, dtype, seed):
    generator = torch.Generator("cuda").manual_seed(seed)
    return torch.randn(*shape, generator=generator, device="cuda").to(dtype)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [511, 512, 700])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_product_of_many_rows_is_added_in_place(dtype, rows, bias):
    layer = RowParallelLinear(Shard.all(INPUTS), Shard.all(OUTPUTS), SingleGroup(), bias=bias)
    layer.weight = nn.Parameter(draw(OUTPUTS, INPUTS, dtype=dtype, seed=0) / 16, False)
    added = torch.zeros(OUTPUTS, device="cuda", dtype=torch.float64)
    if bias:
        layer.bias = nn.Parameter(draw(OUTPUTS, dtype=dtype, seed=1), False)
        added = layer.bias.double()
    x, residual = draw(rows, INPUTS, dtype=dtype, seed=2), draw(rows, OUTPUTS, dtype=dtype, seed=3)
    expected = residual.double() + x.double() @ layer.weight.double().T + added
    delta = layer.add_to(residual, x)
    assert (delta is None) == (rows >= 512 and dtype is not torch.float32 and not bias)
    found = residual if delta is None else residual + delta
    assert (found.double() - expected).norm() < 6e-3 * expected.norm()
