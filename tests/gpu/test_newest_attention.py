"""Attention in one kernel with the rotation and the cache write: for few sequences, on clusters."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.ops.support import Kind, bits  # noqa: E402
from tests.ops.test_paged_attention import Heads  # noqa: E402
from tests.ops.test_rotary_and_attention import EPSILON, Step  # noqa: E402
from vllm import ops  # noqa: E402

LONG = [(3000, 1), (17, 1), (1, 1), (700, 1), (16, 1), (1500, 1), (33, 1)]
HEADS = [
    (32, 8, 128),
    (16, 8, 128),
    (40, 8, 128),
    (8, 1, 128),
    (14, 2, 64),
    (71, 1, 64),
    (6, 2, 256),
]


def most_cluster() -> int:
    return 4 if torch.cuda.get_device_capability() >= (9, 0) else 1


CLUSTERS = [
    pytest.param(
        cluster,
        marks=pytest.mark.skipif(
            torch.cuda.is_available() and cluster > most_cluster(),
            reason="clusters of thread blocks came with compute capability 9.0",
        ),
    )
    for cluster in (1, 2, 4)
]


@pytest.fixture(params=["float16", "bfloat16"])
def kind(request) -> Kind:
    return Kind("torch", "cuda", request.param)


def plan_of(step: Step, cluster: int, blocks: int) -> ops.AttentionPlan:
    heads, (_, lens, starts) = step.batch.heads, step.indices
    sizes = ops.attention_plan_sizes(int(starts[-1]), len(lens), *heads, blocks)
    items = torch.zeros(sizes.items, sizes.item_ints, dtype=torch.int32)
    window = step.options["sliding_window"]
    lists, first, tiles, _, planned = ops.plan_attention(
        items,
        torch.from_numpy(lens),
        torch.from_numpy(starts),
        heads.query,
        heads.kv,
        window,
        blocks,
        cluster=cluster,
    )
    arrivals = torch.zeros(sizes.arrivals, dtype=torch.int32, device="cuda")
    partials = torch.full((sizes.partials,), float("nan"), device="cuda")
    return ops.AttentionPlan(items.cuda(), arrivals, partials, lists, first, tiles, True, planned)


def same_caches(step: Step, placed) -> None:
    """Bit for bit what rotary_and_cache stores."""
    alone = step.place()
    names = [*step.before, *(name for name, each in step.weights.items() if each is not None)]
    ops.rotary_and_cache(**{name: alone[name].tensor for name in names}, epsilon=EPSILON)
    for name in ("key_cache", "value_cache"):
        np.testing.assert_array_equal(bits(placed[name].read()), bits(alone[name].read()), name)


@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("blocks", [8, 40, 1000], ids="blocks={}".format)
@pytest.mark.parametrize("heads", HEADS, ids=lambda heads: "-".join(map(str, heads)))
def test_clusters_on_any_number_of_blocks(kind, heads, blocks, cluster):
    step = Step(kind, Heads(*heads), LONG)
    plan = plan_of(step, cluster, blocks)
    assert plan.cluster == cluster
    same_caches(step, step.check(plan))
    assert not plan.arrivals.any()


@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize(("window", "soft_cap"), [(5, 0.0), (100, 5.0), (0, 5.0)])
def test_windows_and_caps(kind, window, soft_cap, cluster):
    step = Step(kind, Heads(8, 2, 128), LONG, window=window, soft_cap=soft_cap)
    step.check(plan_of(step, cluster, 40))


@pytest.mark.parametrize("normed", [False, True])
def test_with_and_without_norms(kind, normed):
    step = Step(kind, Heads(8, 2, 128), LONG, normed=normed)
    same_caches(step, step.check(plan_of(step, most_cluster(), 264)))


def test_the_bits_of_a_sequence_do_not_depend_on_its_company(kind):
    """As long as it has clusters of its own."""
    both = Step(kind, Heads(16, 8, 128), [(290, 1), (290, 1), (50, 1)])
    placed = both.place()
    both.run(plan_of(both, most_cluster(), 264), placed)
    alone = Step(kind, Heads(16, 8, 128), [(290, 1)])
    for name in ("query", "key", "value", "positions", "slot_mapping"):
        alone.before[name] = both.before[name][1:2]
    alone.before["key_cache"], alone.before["value_cache"] = (
        both.before[name] for name in ("key_cache", "value_cache")
    )
    alone.before["cos_sin_cache"] = both.before["cos_sin_cache"]
    tables, lens, _ = both.indices
    alone.indices = tables[1:2], lens[1:2], alone.indices[2]
    again = alone.place()
    alone.run(plan_of(alone, most_cluster(), 264), again)
    np.testing.assert_array_equal(bits(again["out"].read()[0]), bits(placed["out"].read()[1]))


def test_which_kernel_runs(run_fresh):
    """One for a plan with clusters, else two."""
    code = """
import json
from tests.gpu.test_newest_attention import Heads, Kind, LONG, Step, plan_of
from vllm import _C
loaded = []
for cluster in (1, 0):
    step = Step(Kind("torch", "cuda", "float16"), Heads(8, 2, 64), LONG)
    step.run(plan_of(step, cluster, 264), step.place())
    loaded.append(sorted(path.split("/")[-1].split(".")[0] for _, path in _C.loaded_kernels()))
print(json.dumps(loaded))
"""
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("the kernel needs compute capability 8.0")
    assert run_fresh(code) == [
        ["attention_newest"],
        ["attention_decode", "attention_newest", "rotary"],
    ]


@pytest.mark.parametrize("sequences", [1, 3])
def test_what_the_kernel_before_writes_is_seen(kind, sequences):
    """Heads by a product of few rows, which overlaps; the results follow each other in a graph."""
    heads = Heads(16, 8, 128)
    steps, width = 40, 64
    dtype, device = getattr(torch, kind.dtype), torch.device("cuda")
    step = Step(kind, heads, [(290, 1)] * sequences)
    placed = step.place()
    tensors = {name: each.tensor for name, each in placed.items()}
    generator = torch.Generator(device).manual_seed(0)
    rows = heads.query + 2 * heads.kv
    weight = torch.randn(rows * heads.size, width, generator=generator, device=device).to(dtype)
    xs = torch.randn(steps, sequences, width, generator=generator, device=device).to(dtype)
    joint = torch.empty(sequences, rows, heads.size, dtype=dtype, device=device)
    parts = torch.split(joint, [heads.query, heads.kv, heads.kv], dim=1)
    tensors.update(zip(("query", "key", "value"), parts))
    outs = torch.full((2, steps, sequences, heads.query, heads.size), float("nan"), device=device)
    outs = outs.to(dtype)
    plan = plan_of(step, min(4, most_cluster()), 264)

    def run(out, x):
        ops.few_rows_linear(joint.view(sequences, -1), x, weight)
        call = {**tensors, "out": out}
        ops.rotary_and_attention(**call, scale=step.batch.scale, epsilon=EPSILON, plan=plan)

    for out, x in zip(outs[0], xs):
        run(out, x)
        torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for out, x in zip(outs[1], xs):
            run(out, x)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(outs[0], outs[1])
    assert len({out.float().sum().item() for out in outs[0]}) == steps
