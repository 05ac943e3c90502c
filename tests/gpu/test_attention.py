"""Attention on CUDA: split over thread blocks, on tensor cores, in graphs."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from tests.ops.support import Kind  # noqa: E402
from tests.ops.test_paged_attention import Batch, Heads  # noqa: E402
from vllm import _C  # noqa: E402

LONG = [(3000, 1), (17, 1), (1, 1), (700, 1), (16, 1), (4097, 1)]
PREFILLS = [(300, 300), (500, 37), (129, 129), (64, 2), (1000, 65)]


def cuda(dtype: str) -> Kind:
    return Kind("torch", "cuda", dtype)


@pytest.fixture(params=["float16", "bfloat16"])
def kind(request) -> Kind:
    return cuda(request.param)


@pytest.mark.parametrize("heads", [(32, 8), (16, 8), (40, 8), (8, 1), (14, 2), (32, 2), (71, 1)])
@pytest.mark.parametrize("blocks", [0, 1, 3, 50, 1000], ids="blocks={}".format)
def test_decode_on_any_number_of_blocks(kind, heads, blocks):
    Batch(kind, Heads(*heads, 128), LONG).check(blocks)


@pytest.mark.parametrize("sequences", [LONG, PREFILLS, LONG + PREFILLS], ids=["d", "p", "both"])
@pytest.mark.parametrize("head_size", [64, 80, 96, 128, 256])
def test_head_sizes_with_kernels_of_their_own(kind, head_size, sequences):
    Batch(kind, Heads(8, 2, head_size), sequences).check()


@pytest.mark.parametrize("block_size", [16, 32, 48])
@pytest.mark.parametrize("window", [0, 5, 100])
@pytest.mark.parametrize("soft_cap", [0.0, 5.0])
def test_block_sizes_windows_and_caps(kind, block_size, window, soft_cap):
    batch = Batch(kind, Heads(8, 2, 64), LONG + PREFILLS, block_size, window)
    batch.check(soft_cap=soft_cap)


@pytest.mark.parametrize("blocks", [0, 3, 1000])
def test_float32_is_cut_as_well(blocks):
    Batch(cuda("float32"), Heads(8, 2, 128), LONG + PREFILLS).check(blocks)


def test_which_kernels_run(run_fresh):
    """Tensor cores where the architecture has them; an odd head size runs without."""
    code = """
import json
import numpy as np
from tests.gpu.test_attention import cuda, LONG, PREFILLS
from tests.ops.test_paged_attention import Batch, Heads
from vllm import _C
loaded = []
for head_size in (64, 72):
    Batch(cuda("float16"), Heads(8, 2, head_size), LONG + PREFILLS).check()
    loaded.append(sorted(path.split("/")[-1].split(".")[0] for _, path in _C.loaded_kernels()))
print(json.dumps(loaded))
"""
    arch = _C.select_code(*torch.cuda.get_device_capability()).split("_")[1]
    prefill = "attention_prefill_few" if arch == "90a" else "attention_prefill"
    fast, slow = ["attention_decode", prefill], ["attention_plain"]
    first = fast if int(arch.rstrip("a")) >= 75 else slow
    assert run_fresh(code) == [first, sorted({*first, *slow})]


@pytest.mark.parametrize("heads", [Heads(32, 8, 128), Heads(14, 2, 64), Heads(8, 1, 256)])
def test_what_the_kernel_before_writes_is_seen(kind, heads):
    """Whether or not `metadata_ready` is set; calls in a graph overlap as much as any do."""
    from tests.ops.test_paged_attention import plan_for
    from vllm import ops

    steps = 50
    batch = Batch(kind, heads, [(1, 1)])  # nothing else in the cache: the new token is all there is
    draws = [kind.tensor(kind.draw(steps, 1, heads.kv, heads.size, seed=i)) for i in (2, 3)]
    caches = [kind.tensor(each) for each in (batch.key_cache, batch.value_cache)]
    tables, lens, starts = (
        kind.tensor(each) for each in (batch.block_tables, batch.context_lens, batch.query_starts)
    )
    slot = tables[:, 0].long() * 16
    query = kind.tensor(batch.query)
    plan = plan_for(kind, heads, batch.context_lens, batch.query_starts)
    assert plan.metadata_ready
    out = torch.full((2, steps, *query.shape), float("nan"), dtype=query.dtype, device="cuda")
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for ready in (0, 1):
            for step in range(steps):
                ops.reshape_and_cache(*(each[step] for each in draws), *caches, slot)
                ops.paged_attention(
                    out[ready, step],
                    query,
                    *caches,
                    tables,
                    lens,
                    starts,
                    batch.scale,
                    plan=plan._replace(metadata_ready=bool(ready)),
                )
    graph.replay()
    # With one key there is but one weight, 1: each head's result is its value.
    expected = draws[1].repeat_interleave(heads.query // heads.kv, dim=2)
    for ready in (0, 1):
        assert torch.equal(out[ready], expected)


def test_a_graph_serves_other_lengths(kind):
    """One capture of the whole grid; each replay reads the plan and the lengths of its step."""
    from tests.ops.support import assert_close
    from tests.ops.test_paged_attention import plan_for, tolerance
    from tests.reference.paged_attention import paged_attention
    from vllm import ops

    heads, blocks = Heads(8, 2, 128), 20
    # The lengths of the first steps are the same: what a block that has nothing to do leaves alone.
    steps = [[(40, 1), (900, 1)], [(900, 1), (17, 1)], [(2, 1), (1, 1)], [(5000, 1), (3, 1)]]
    batches = [Batch(kind, heads, step) for step in steps]
    most = max(len(batch.key_cache) for batch in batches)
    width = max(batch.block_tables.shape[1] for batch in batches)
    device, dtype = torch.device("cuda"), getattr(torch, kind.dtype)
    caches = torch.zeros(2, most, 16, heads.kv, heads.size, dtype=dtype, device=device)
    tables = torch.zeros(2, width, dtype=torch.int32, device=device)
    lens = torch.zeros(2, dtype=torch.int32, device=device)
    starts = torch.arange(3, dtype=torch.int32, device=device)
    query = torch.zeros(2, heads.query, heads.size, dtype=dtype, device=device)
    out = torch.full_like(query, float("nan"))
    ints = ops.attention_plan_sizes(0, 0, heads.query, heads.kv, heads.size, blocks).item_ints
    items = torch.zeros(blocks + 2 * (heads.query + 1), ints, dtype=torch.int32, device=device)

    def load(batch):
        plan = plan_for(kind, heads, batch.context_lens, batch.query_starts, blocks=blocks)
        items[: len(plan.items)] = plan.items
        for cache, values in zip(caches, (batch.key_cache, batch.value_cache)):
            cache[: len(values)] = kind.tensor(values)
        tables[:, : batch.block_tables.shape[1]] = kind.tensor(batch.block_tables)
        lens.copy_(kind.tensor(batch.context_lens))
        query.copy_(kind.tensor(batch.query))
        return plan

    plan = load(batches[0])._replace(items=items, decode_blocks=blocks)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        ops.paged_attention(out, query, *caches, tables, lens, starts, heads.size**-0.5, plan=plan)
    for batch in [*batches, *batches]:
        load(batch)
        out.fill_(float("nan"))
        graph.replay()
        expected = paged_attention(
            batch.query,
            batch.key_cache,
            batch.value_cache,
            batch.block_tables,
            batch.context_lens,
            batch.query_starts,
            batch.scale,
        )
        assert_close(kind.to_numpy(out), expected, kind.dtype, absolute=tolerance(kind))
        assert not plan.arrivals.any()
