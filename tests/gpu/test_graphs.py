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
captured = [float(t.abs().max()) for t in (normed, activated, residual)]
x.copy_(torch.randn(rows, width))
graph.replay()
torch.cuda.synchronize()

half = width // 2
heads = x.view(rows, 3, 32)
turned = torch.cat([-heads[..., 16:], heads[..., :16]], -1).view(rows, width)
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
    )],
)))
"""


@pytest.mark.parametrize("attributes", [False, True], ids=["table", "attributes"])
@pytest.mark.parametrize("mode", ["global", "thread_local", "relaxed"])
def test_the_first_use_may_be_in_a_capture(run_fresh, mode, attributes):
    said = run_fresh(FIRST_USE_IN_CAPTURE.format(mode=mode, attributes=attributes))
    assert said["captured"] == [0, 0, 0]  # a capture runs nothing
    assert said["loaded"] == 3
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
