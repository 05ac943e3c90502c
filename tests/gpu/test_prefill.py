"""Prefill attention on CUDA: tiles of 128 rows, dynamic scheduling, graphs."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.ops import test_paged_attention  # noqa: E402
from tests.ops.support import Kind, assert_close  # noqa: E402
from tests.ops.test_paged_attention import Batch, Heads, plan_for, tolerance  # noqa: E402
from tests.reference.paged_attention import paged_attention  # noqa: E402
from vllm import ops  # noqa: E402

ROOM = 1000  # items, more than any GPU has multiprocessors
HEAD_SIZES = [64, 80, 96, 128, 192, 256]
WHOLE = [(128, 128), (256, 256), (127, 127), (129, 129), (2, 2), (700, 700)]
CHUNKS = [(1500, 300), (1000, 65), (513, 1), (2049, 128), (300, 2), (385, 257)]
DECODES = [(900, 1), (17, 1), (1, 1)]
SPLIT = [(20000, 40)]  # over keys, where 264 blocks run


@pytest.fixture(params=["float16", "bfloat16"])
def kind(request) -> Kind:
    return Kind("torch", "cuda", request.param)


@pytest.fixture(params=["many", "few"], autouse=True)
def kernel(request, monkeypatch) -> str:
    """By wgmma, a step with few items has a kernel of its own; room for many takes the other."""

    make = test_paged_attention.plan_for

    def plan_with_room(*args, **options):
        plan = make(*args, **options)
        if request.param == "few" or plan.prefill_tiles == 0:
            return plan
        room = plan.items.new_zeros(ROOM, plan.items.shape[1])
        return plan._replace(
            items=torch.cat([plan.items, room]), prefill_tiles=plan.prefill_tiles + ROOM
        )

    monkeypatch.setattr(test_paged_attention, "plan_for", plan_with_room)
    monkeypatch.setattr(f"{__name__}.plan_for", plan_with_room)
    return request.param


@pytest.mark.parametrize(
    "sequences", [WHOLE, CHUNKS, WHOLE + DECODES + CHUNKS], ids=["w", "c", "m"]
)
@pytest.mark.parametrize("head_size", HEAD_SIZES)
def test_head_sizes(kind, head_size, sequences):
    Batch(kind, Heads(8, 2, head_size), sequences).check()


@pytest.mark.parametrize("heads", [(4, 4), (16, 8), (40, 8), (8, 1), (14, 2), (71, 1), (129, 1)])
def test_groups_of_heads(kind, heads):
    Batch(kind, Heads(*heads, 128), CHUNKS + DECODES).check()


@pytest.mark.parametrize("head_size", [64, 128, 256])
@pytest.mark.parametrize("block_size", [16, 32, 48, 64, 128, 256])
def test_block_sizes(kind, block_size, head_size):
    Batch(kind, Heads(8, 2, head_size), CHUNKS + DECODES, block_size).check()


@pytest.mark.parametrize("soft_cap", [0.0, 1.0, 5.0])  # some scores beyond it, or none
@pytest.mark.parametrize("window", [1, 16, 100, 128, 1000])
@pytest.mark.parametrize("heads", [Heads(8, 2, 128), Heads(3, 3, 64), Heads(8, 1, 256)])
def test_windows_and_caps(kind, heads, window, soft_cap):
    Batch(kind, heads, WHOLE + CHUNKS + DECODES, 32, window).check(soft_cap=soft_cap)


@pytest.mark.parametrize("head_size", [64, 128])
def test_heads_after_slots(kind, head_size):
    """The other layout, and caches that are every other part of one allocation."""
    heads = Heads(8, 2, head_size)
    batch = Batch(kind, heads, CHUNKS + DECODES)
    indices = batch.block_tables, batch.context_lens, batch.query_starts
    expected = paged_attention(
        batch.query, batch.key_cache, batch.value_cache, *indices, batch.scale
    )
    caches = np.stack([batch.key_cache, batch.value_cache], axis=1)
    for memory in (kind.tensor(caches), kind.tensor(caches.swapaxes(2, 3).copy())):
        views = memory if memory.shape[2] == 16 else memory.swapaxes(2, 3)
        out = kind.empty(*batch.query.shape)
        ops.paged_attention(
            out.tensor,
            kind.tensor(batch.query),
            views[:, 0],
            views[:, 1],
            *(kind.tensor(each) for each in indices),
            batch.scale,
            plan=plan_for(kind, heads, *indices[1:]),
        )
        assert_close(out.read(), expected, kind.dtype, absolute=tolerance(kind))


@pytest.mark.parametrize("head_size", [64, 128, 256])
@pytest.mark.parametrize("scale", [100.0, 10.0, -100.0, 0.0])
def test_scores_of_any_size(kind, scale, head_size):
    """Weights by an older base may become too large for the dtype, or for float32."""
    batch = Batch(kind, Heads(4, 1, head_size), [(900, 900), (1500, 100)])
    batch.query = kind.array(np.round(batch.query.astype(np.float64)))
    batch.key_cache = kind.array(np.round(batch.key_cache.astype(np.float64)))
    batch.scale = scale  # whole numbers: scores are exact
    batch.check()


@pytest.mark.parametrize("step", [3.0, 12.0, 40.0, 400.0])
@pytest.mark.parametrize("dims", [1, 128])
@pytest.mark.parametrize("head_size", [64, 128])
def test_scores_that_grow_from_tile_to_tile(kind, head_size, step, dims):
    """Tiles are done from the last to the first: towards earlier keys each score is greater, by
    `step` a tile of 128."""
    batch = Batch(kind, Heads(4, 1, head_size), [(1280, 200)])
    keys = batch.key_cache.astype(np.float64)
    for position in range(1280):
        block, slot = batch.block_tables[0, position // 16], position % 16
        keys[block, slot] /= 16
        keys[block, slot, :, 0] = (1280 - position) // 128 * step
    batch.key_cache = kind.array(keys)
    query = np.round(batch.query.astype(np.float64) / 4, 2)
    query[:, :, 0] = 1.0
    if dims == 1:
        query[:, ::2, 0] = 0.0  # only some rows of a warp
    batch.query = kind.array(query)
    batch.scale = 1.0
    batch.check()


@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("window", [0, 3000])
def test_few_tiles_are_split_over_keys(kind, head_size, window):
    """Rows that see nothing of the last piece among them."""
    sequences = [(9000, 2), (8200, 40), (5003, 33)]
    Batch(kind, Heads(8, 2, head_size), sequences, window=window).check(blocks=264)


def test_few_tiles_without_tensor_cores_are_split_over_keys():
    Batch(Kind("torch", "cuda", "float32"), Heads(8, 2, 72), [(9000, 3), (5003, 33)]).check(264)


@pytest.mark.parametrize("head_size", [64, 128])
@pytest.mark.parametrize("soft_cap", [2.0, 5.0])
@pytest.mark.parametrize("every", [0, 16, 512])
def test_scores_beyond_a_soft_cap_in_some_tiles(kind, head_size, soft_cap, every):
    """All scores far below the cap, but those of one key of `every`."""
    batch = Batch(kind, Heads(4, 2, head_size), [(1500, 300), (1000, 1000)])
    batch.query = kind.array(batch.query.astype(np.float64) / 8)
    keys = batch.key_cache.astype(np.float64)
    for table, context in zip(batch.block_tables, batch.context_lens):
        for position in range(0, context, every or context + 1):
            keys[table[position // 16], position % 16] *= 64 if every else 1
    batch.key_cache = kind.array(keys)
    batch.check(soft_cap=soft_cap)


@pytest.mark.parametrize("sequences", [[(3000, 2000), *DECODES, (1000, 1000)], SPLIT])
def test_the_same_bits_again(kind, sequences):
    """Also where blocks add up split results in any order of arrival."""
    batch = Batch(kind, Heads(32, 8, 128), sequences)
    indices = batch.block_tables, batch.context_lens, batch.query_starts
    plan = plan_for(kind, batch.heads, *indices[1:], blocks=264)
    tensors = [
        kind.tensor(each) for each in (batch.query, batch.key_cache, batch.value_cache, *indices)
    ]
    results = []
    for _ in range(20):
        out = torch.full_like(tensors[0], float("nan"))
        ops.paged_attention(out, *tensors, batch.scale, plan=plan)
        results.append(out)
    assert not results[0].isnan().any()
    assert all(torch.equal(each, results[0]) for each in results)
    assert not plan.arrivals.any()


def test_a_graph_serves_other_lengths(kind, kernel):
    """One capture with room for more tiles than any step has."""
    heads, blocks, room = Heads(8, 2, 128), 20, 64 if kernel == "few" else ROOM
    steps = [
        [(40, 40), (900, 300), (900, 1)],
        [(700, 700), (17, 1), (3, 3)],
        [(2, 1), (1, 1), (4000, 1)],
        [(300, 7), (5, 5), (128, 128)],
    ]
    batches = [Batch(kind, heads, step) for step in steps]
    tokens = max(len(batch.query) for batch in batches)
    most = max(len(batch.key_cache) for batch in batches)
    width = max(batch.block_tables.shape[1] for batch in batches)
    device, dtype = torch.device("cuda"), getattr(torch, kind.dtype)
    caches = torch.zeros(2, most, 16, heads.kv, heads.size, dtype=dtype, device=device)
    tables = torch.zeros(3, width, dtype=torch.int32, device=device)
    lens = torch.zeros(3, dtype=torch.int32, device=device)
    starts = torch.zeros(4, dtype=torch.int32, device=device)
    query = torch.zeros(tokens, heads.query, heads.size, dtype=dtype, device=device)
    out = torch.full_like(query, float("nan"))
    ints = ops.attention_plan_sizes(1, 1, heads.query, heads.kv, heads.size, blocks).item_ints
    items = torch.zeros(1 + 2 * blocks + room + 100, ints, dtype=torch.int32)

    def load(batch):
        counts = ops.plan_attention(
            items,
            torch.from_numpy(batch.context_lens),
            torch.from_numpy(batch.query_starts),
            heads.query,
            heads.kv,
            0,
            blocks,
        )
        assert counts[1] == blocks
        assert counts[2] < room
        on_device.copy_(items)
        for cache, values in zip(caches, (batch.key_cache, batch.value_cache)):
            cache[: len(values)] = kind.tensor(values)
        tables[:, : batch.block_tables.shape[1]] = kind.tensor(batch.block_tables)
        lens.copy_(kind.tensor(batch.context_lens))
        starts.copy_(kind.tensor(batch.query_starts))
        query[: len(batch.query)] = kind.tensor(batch.query)

    on_device = items.cuda()
    plan = plan_for(kind, heads, batches[0].context_lens, batches[0].query_starts, blocks=blocks)
    plan = plan._replace(items=on_device, decode_blocks=blocks, prefill_tiles=room)
    load(batches[0])
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
        found = kind.to_numpy(out)
        assert_close(found[: len(expected)], expected, kind.dtype, absolute=tolerance(kind))
        assert np.isnan(found[len(expected) :].astype(np.float32)).all()
        assert not plan.arrivals.any()
