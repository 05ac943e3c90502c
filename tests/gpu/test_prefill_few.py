"""Prefill attention of few items: a CTA for each, and all CTAs of a split item merge it."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.ops.support import Kind, assert_close  # noqa: E402
from tests.ops.test_paged_attention import Batch, Heads, plan_for, tolerance  # noqa: E402
from tests.reference.paged_attention import paged_attention  # noqa: E402
from vllm import _C, ops  # noqa: E402

HEAD_SIZES = [64, 128, 256]


@pytest.fixture(params=["float16", "bfloat16"])
def kind(request) -> Kind:
    return Kind("torch", "cuda", request.param)


def expected_of(batch: Batch) -> np.ndarray:
    indices = batch.block_tables, batch.context_lens, batch.query_starts
    caches = batch.key_cache, batch.value_cache
    return paged_attention(batch.query, *caches, *indices, batch.scale, **batch.options)


class Call:
    """A step whose partial results are NaN before each run."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        indices = batch.block_tables, batch.context_lens, batch.query_starts
        self.plan = plan_for(batch.kind, batch.heads, *indices[1:], batch.options["sliding_window"])
        floats = batch.query, batch.key_cache, batch.value_cache
        self.tensors = [batch.kind.tensor(each) for each in (*floats, *indices)]

    @property
    def splits(self) -> int:
        """The most of an item."""
        tiles = slice(self.plan.prefill_first + 1, None)
        return int(self.plan.items[tiles][: self.plan.prefill_tiles, 10].max())

    def run(self) -> torch.Tensor:
        out = torch.full_like(self.tensors[0], float("nan"))
        self.plan.partials.fill_(float("nan"))
        options = {**self.batch.options, "plan": self.plan}
        ops.paged_attention(out, *self.tensors, self.batch.scale, **options)
        return out

    def check(self) -> None:
        found, kind = self.batch.kind.to_numpy(self.run()), self.batch.kind
        assert_close(found, expected_of(self.batch), kind.dtype, absolute=tolerance(kind))
        assert not self.plan.arrivals.any()


@pytest.mark.parametrize("new", [3, 5, 16, 31, 32, 33, 64, 65, 100])
@pytest.mark.parametrize("head_size", HEAD_SIZES)
def test_every_number_of_rows(kind, head_size, new):
    """12 to 400 rows on one KV head."""
    call = Call(Batch(kind, Heads(8, 2, head_size), [(9000, new)]))
    assert call.splits > 1
    call.check()


@pytest.mark.parametrize(
    ("keys", "splits"),
    [(1100, 2), (1600, 3), (2100, 4), (4000, 7), (8000, 15), (12000, 23), (40000, 32)],
)
@pytest.mark.parametrize("heads", [Heads(4, 1, 128), Heads(7, 1, 64), Heads(5, 1, 256)])
def test_every_number_of_splits(kind, heads, keys, splits):
    call = Call(Batch(kind, heads, [(keys, 18)]))
    if _C.select_code(*torch.cuda.get_device_capability()) == "sm_90a":
        assert call.splits == splits
    call.check()


@pytest.mark.parametrize("window", [0, 100, 3000])
@pytest.mark.parametrize("block_size", [16, 64, 256])
def test_unequal_sequences(kind, block_size, window):
    """Split and whole items, rows that see nothing of the last piece, and decodes."""
    sequences = [(9000, 2), (8200, 40), (100, 100), (5003, 33), (700, 1), (3, 3)]
    Call(Batch(kind, Heads(8, 2, 128), sequences, block_size, window)).check()


def test_the_same_bits_beside_other_work(kind):
    """Another stream's kernels occupy multiprocessors, so that CTAs begin at any time."""
    call = Call(Batch(kind, Heads(32, 8, 128), [(20000, 40)]))
    results = [call.run()]
    torch.cuda.synchronize()
    other, matrix = torch.cuda.Stream(), torch.randn(2048, 2048, device="cuda")
    for _ in range(20):
        with torch.cuda.stream(other):
            for _ in range(3):
                matrix = (matrix @ matrix).clamp(-1, 1)
        results.append(call.run())
    torch.cuda.synchronize()
    assert not results[0].isnan().any()
    assert all(torch.equal(each, results[0]) for each in results)
    assert not call.plan.arrivals.any()


def test_a_graph_serves_other_lengths(kind):
    """Other items on the same grid, or none."""
    heads = Heads(8, 2, 128)
    steps = [[(9000, 40)], [(5000, 3), (700, 20)], [(300, 300)], [(40, 1)], [(30000, 17)]]
    calls = [Call(Batch(kind, heads, step)) for step in steps]
    plans = [call.plan for call in calls]
    most = max(plan.prefill_tiles for plan in plans)
    assert most * heads.kv <= torch.cuda.get_device_properties(0).multi_processor_count
    items = torch.zeros(
        plans[0].prefill_first + 300, plans[0].items.shape[1], dtype=torch.int32, device="cuda"
    )
    shared = [
        torch.zeros(
            torch.tensor([call.tensors[i].shape for call in calls]).amax(0).tolist(),
            dtype=calls[0].tensors[i].dtype,
            device="cuda",
        )
        for i in range(6)
    ]
    out = torch.full_like(shared[0], float("nan"))

    def load(call: Call) -> None:
        items[: len(call.plan.items)] = call.plan.items
        for to, values in zip(shared, call.tensors):
            to[tuple(slice(n) for n in values.shape)] = values

    plan = plans[0]._replace(items=items, decode_blocks=plans[0].prefill_first, prefill_tiles=most)
    load(calls[0])
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        ops.paged_attention(out, *shared, heads.size**-0.5, plan=plan)
    for call in [*calls, *calls]:
        load(call)
        out.fill_(float("nan"))
        graph.replay()
        found, expected = kind.to_numpy(out), expected_of(call.batch)
        assert_close(found[: len(expected)], expected, kind.dtype, absolute=tolerance(kind))
        assert np.isnan(found[len(expected) :].astype(np.float32)).all()
        assert not plan.arrivals.any()


def test_its_kernel_runs(kind):
    if _C.select_code(*torch.cuda.get_device_capability()) != "sm_90a":
        pytest.skip("the kernel for few items is for 9.0a only")
    Call(Batch(kind, Heads(8, 2, 128), [(9000, 40)])).check()
    assert any("attention_prefill_few" in str(each) for each in _C.loaded_kernels())


def test_what_the_kernel_before_writes_is_seen(kind):
    """Items and tables are read, and tiles prefetched, before that kernel has ended."""
    heads, steps = Heads(8, 2, 128), 50
    batch = Batch(kind, heads, [(3, 3)])
    draws = [kind.tensor(kind.draw(3, heads.kv, heads.size, seed=i)) for i in (2, 3)]
    draws = [torch.stack([each * (1 + step / 50) for step in range(steps)]) for each in draws]
    caches = [kind.tensor(each) for each in (batch.key_cache, batch.value_cache)]
    indices = [
        kind.tensor(each) for each in (batch.block_tables, batch.context_lens, batch.query_starts)
    ]
    slots = indices[0][0, 0].long() * 16 + torch.arange(3, device="cuda")
    query = kind.tensor(batch.query)
    plan = plan_for(kind, heads, batch.context_lens, batch.query_starts)
    assert plan.metadata_ready
    assert plan.prefill_tiles == 1
    out = torch.full((2, steps, *query.shape), float("nan"), dtype=query.dtype, device="cuda")

    def run(ready: int, step: int) -> None:
        ops.reshape_and_cache(*(each[step] for each in draws), *caches, slots)
        ops.paged_attention(
            *(out[ready, step], query, *caches, *indices, batch.scale),
            plan=plan._replace(metadata_ready=bool(ready)),
        )

    run(0, 0)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for ready in (0, 1):
            for step in range(steps):
                run(ready, step)
    graph.replay()
    found = out.clone()
    for step in range(steps):  # one at a time, nothing overlaps
        run(0, step)
        torch.cuda.synchronize()
        for ready in (0, 1):
            assert torch.equal(found[ready, step], out[0, step])
