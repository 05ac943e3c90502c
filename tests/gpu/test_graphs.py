"""Ops inside a CUDA graph, also when the capture is the first time that they are used."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

FIRST_USE_IN_CAPTURE = """
import json, sys
import torch
from vllm import _C, ops

mode, attributes = {mode!r}, {attributes!r}
_C.use_torch_attributes(attributes)
rows, width = 5, 96
x = torch.zeros(rows, width, device="cuda")
weight = torch.ones(width, device="cuda")
residual, added = torch.zeros_like(x), torch.zeros_like(x)
normed, activated = torch.zeros_like(x), torch.zeros(rows, width // 2, device="cuda")
query = torch.zeros(rows, width, device="cuda")
positions = torch.arange(rows, device="cuda")
table, gathered = torch.zeros_like(x), torch.zeros_like(x)
heads = torch.zeros(rows, 3, 32, device="cuda")
stored = torch.zeros(2, rows, 1, 1, 32, device="cuda")
copied, ones = torch.zeros_like(stored), torch.ones(32, device="cuda")
cache = torch.cat([torch.zeros(rows, 16), torch.ones(rows, 16)], 1).cuda()  # a quarter turn
torch.cuda.synchronize()
assert _C.loaded_kernels() == []

graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph, capture_error_mode=mode):
    ops.rms_norm(normed, x, weight, 0.0)
    ops.silu_and_mul(activated, x)
    added.copy_(x)
    residual.copy_(x)
    ops.fused_add_rms_norm(added, residual, weight, 0.0)
    query.copy_(x)
    ops.rotary_embedding(positions, query, None, 32, cache)
    table.copy_(x)
    ops.embedding(gathered, positions, table)
    heads.copy_(x.view(rows, 3, 32))
    parts = heads.split(1, 1)
    ops.reshape_and_cache(parts[1], parts[2], *copied, positions)
    ops.rotary_and_cache(positions, *parts, cache, *stored, positions, ones, ones, 0.0)
captured = [float(t.abs().max()) for t in (normed, activated, residual, gathered, copied, stored)]
x.copy_(torch.randn(rows, width))
graph.replay()
torch.cuda.synchronize()

half = width // 2
before, heads = heads, x.view(rows, 3, 32)
def quarter(heads):
    return torch.cat([-heads[..., 16:], heads[..., :16]], -1)
turned = quarter(heads).view(rows, width)
unit = heads / heads.pow(2).mean(-1, keepdim=True).sqrt()
norm = x / x.pow(2).mean(-1, keepdim=True).sqrt()
print(json.dumps(dict(
    captured=captured,
    loaded=len(_C.loaded_kernels()),
    differences=[float((got - want).abs().max()) for got, want in (
        (normed, norm),
        (activated, torch.nn.functional.silu(x[:, :half]) * x[:, half:]),
        (added, norm),
        (residual, 2 * x),
        (query, turned),
        (gathered, x),
        (copied[:, :, 0, 0], heads[:, 1:].transpose(0, 1)),
        (before[:, 0], quarter(unit)[:, 0]),
        (stored[0, :, 0, 0], quarter(unit)[:, 1]),
        (stored[1, :, 0, 0], heads[:, 2]),
    )],
)))
"""


@pytest.mark.parametrize("attributes", [False, True], ids=["table", "attributes"])
@pytest.mark.parametrize("mode", ["global", "thread_local", "relaxed"])
def test_the_first_use_may_be_in_a_capture(run_fresh, mode, attributes):
    said = run_fresh(FIRST_USE_IN_CAPTURE.format(mode=mode, attributes=attributes))
    assert said["captured"] == [0] * 6  # a capture runs nothing
    # norm, activation, rotary embedding, cache writes, embedding
    assert said["loaded"] == 5
    assert max(said["differences"]) < 1e-5


def test_a_replay_reads_new_values(sample, run_ops, assert_right):
    static, new = sample("cuda", seed=1), sample("cuda", seed=2)
    run_ops(static)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = run_ops(static)
    for name in ("input", "residual", "weight", "gated", "query", "cache"):
        getattr(static, name).copy_(getattr(new, name))
    graph.replay()
    assert_right(results, new)
