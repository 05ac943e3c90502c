from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import pytest

from tests.ops.support import ROUNDING, Kind, assert_close, bits, why_not
from tests.reference.paged_attention import paged_attention
from vllm import ops

# A block that does not exist: whoever follows an entry that no query sees is found out.
POISON = -(2**31)

# Scores are sums over a head in float32, of products of normally distributed numbers: off by less
# than 1e-5, and with them, relatively, the weights of values of about 1. On CUDA exp is an
# instruction, right to 2 in 10^7 of numbers of up to a hundred, and weights that tensor cores
# multiply are rounded first.
SCORES = 1e-5


def tolerance(kind: Kind) -> float:
    if kind.device == "cpu":
        return SCORES
    return 3e-5 + (0.0 if kind.dtype == "float32" else 2 * ROUNDING[kind.dtype])


def plan_for(kind: Kind, heads: Heads, context_lens, query_starts, window=0, blocks=0):
    """What CUDA needs beside the arguments, and the CPU does not."""
    if kind.device == "cpu":
        return None
    import torch

    from vllm.layers.attention import AttentionPlanner

    planner = AttentionPlanner(*heads, torch.device("cuda"), (window,), blocks)
    lens = torch.from_numpy(context_lens), torch.from_numpy(query_starts)
    plan = planner.plan(*lens)[window]
    return plan._replace(items=plan.items.cuda())


# (tokens in the cache, of which queries)
DECODE = [(1, 1), (31, 1), (32, 1), (33, 1), (100, 1)]
PREFILL = [(1, 1), (5, 5), (64, 64), (70, 70)]
CHUNKS = [(70, 3), (90, 17), (64, 32), (33, 32), (100, 2)]
MIXED = [(40, 1), (0, 0), (50, 50), (31, 0), (70, 9), (8, 1)]


class Heads(NamedTuple):
    query: int
    kv: int
    size: int


class Batch:
    """Sequences in a cache whose every other slot, and every unused table entry, is poisoned."""

    def __init__(self, kind, heads, sequences, block_size=16, window=0, strided=False):
        self.kind, self.heads = kind, heads
        rng = np.random.default_rng(0)
        contexts, queries = np.ascontiguousarray(np.array(sequences, np.int32).T)
        blocks_of = -(-contexts // block_size)
        blocks = int(blocks_of.sum()) + 2
        order = iter(rng.permutation(blocks))
        self.key_cache = np.full((blocks, block_size, heads.kv, heads.size), np.nan)
        self.value_cache = self.key_cache.copy()
        self.block_tables = np.full((len(sequences), blocks_of.max() + 1), POISON, np.int32)
        for i, (context, count) in enumerate(zip(contexts, queries)):
            first = max(0, context - count + 1 - window) if window else 0
            if count == 0:
                first = context  # nobody looks
            table = [next(order) for _ in range(blocks_of[i])]
            for token in range(first, context):
                block = table[token // block_size]
                self.block_tables[i, token // block_size] = block
                for cache in (self.key_cache, self.value_cache):
                    cache[block, token % block_size] = rng.standard_normal(cache.shape[2:])
        self.key_cache, self.value_cache = kind.array(self.key_cache), kind.array(self.value_cache)
        self.context_lens = contexts
        self.query_starts = np.concatenate([[0], np.cumsum(queries)]).astype(np.int32)
        self.query = kind.draw(int(queries.sum()), heads.query, heads.size, seed=1)
        self.scale = heads.size**-0.5
        self.strided = strided
        self.options = {"sliding_window": window}

    def check(self, blocks=0, **options) -> None:
        """blocks: of the plan that CUDA takes."""
        options = {**self.options, **options}
        indices = self.block_tables, self.context_lens, self.query_starts
        window = options["sliding_window"]
        plan = plan_for(self.kind, self.heads, *indices[1:], window, blocks)
        out = self.kind.empty(*self.query.shape, strided=self.strided)
        floats = [
            self.kind.place(values, self.strided)
            for values in (self.query, self.key_cache, self.value_cache)
        ]
        ops.paged_attention(
            out.tensor,
            *(each.tensor for each in floats),
            *(self.kind.tensor(each) for each in indices),
            self.scale,
            **options,
            plan=plan,
        )
        expected = paged_attention(
            self.query, self.key_cache, self.value_cache, *indices, self.scale, **options
        )
        assert_close(out.read(), expected, self.kind.dtype, absolute=tolerance(self.kind))
        for placed, values in zip(floats, (self.query, self.key_cache, self.value_cache)):
            np.testing.assert_array_equal(bits(placed.read()), bits(values))


@pytest.mark.parametrize(
    "sequences", [DECODE, PREFILL, CHUNKS, MIXED], ids=["decode", "prefill", "chunks", "mixed"]
)
@pytest.mark.parametrize(
    "heads",
    [Heads(4, 4, 64), Heads(8, 2, 128), Heads(14, 2, 24), Heads(6, 1, 8)],
    ids=lambda heads: "-".join(map(str, heads)),
)
def test_sequences(kind, heads, sequences, strided):
    Batch(kind, heads, sequences, strided=strided).check()


@pytest.mark.parametrize("head_size", range(8, 257, 8))
def test_every_head_size(kind, head_size):
    Batch(kind, Heads(4, 2, head_size), [(37, 1), (40, 5), (40, 3)]).check()


@pytest.mark.parametrize("group", [1, 2, 3, 4, 5, 8, 16, 31, 33, 71])
def test_every_size_of_a_group_of_heads(kind, group):
    for kv_heads in (1, 3):
        Batch(kind, Heads(group * kv_heads, kv_heads, 16), [(37, 1), (40, 5), (3, 3)]).check()


@pytest.mark.parametrize("block_size", [1, 3, 8, 32, 100])
def test_block_sizes(kind, block_size):
    Batch(kind, Heads(2, 1, 32), CHUNKS, block_size=block_size).check()


@pytest.mark.parametrize("window", [1, 2, 31, 32, 33, 64, 1000])
@pytest.mark.parametrize(
    "sequences", [DECODE, PREFILL, CHUNKS], ids=["decode", "prefill", "chunks"]
)
def test_sliding_window(kind, window, sequences):
    Batch(kind, Heads(4, 2, 32), sequences, window=window).check()


@pytest.mark.parametrize("heads", [Heads(2, 1, 64), Heads(16, 2, 64)], ids=["few", "many"])
def test_soft_cap(kind, heads):
    batch = Batch(kind, heads, MIXED)
    batch.scale = 2.0  # scores of about 16, that the cap bends
    batch.check(soft_cap=20.0)


@pytest.mark.parametrize("heads", [Heads(2, 1, 64), Heads(16, 2, 64)], ids=["few", "many"])
def test_scores_of_any_size(kind, heads):
    """exp of such scores is infinite or 0, but for their difference to the greatest."""
    for scale in (100.0, -100.0, 0.0):
        batch = Batch(kind, heads, [(70, 1), (70, 20)])
        batch.query = kind.array(np.round(batch.query.astype(np.float64)))
        batch.key_cache = kind.array(np.round(batch.key_cache.astype(np.float64)))
        batch.scale = scale  # whole numbers: scores are exact
        batch.check()


def test_many_sequences_on_many_threads(kind):
    rng = np.random.default_rng(2)
    sequences = [(int(n), int(rng.integers(1, n + 1))) for n in rng.integers(1, 80, 20)]
    Batch(kind, Heads(4, 2, 64), sequences).check()


@pytest.mark.parametrize("heads", [Heads(1, 1, 16), Heads(4, 1, 16)], ids=["few", "many"])
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_later_token_cannot_be_felt(cpu_kind, heads, value):
    """Nor one that a sliding window hides: not even through 0 * infinity."""
    kind = cpu_kind
    for window, hidden, touched in ((0, 20, slice(20, 40)), (5, 20, slice(20, 25))):
        batch = Batch(kind, heads, [(40, 40)], window=window)
        block, slot = batch.block_tables[0, hidden // 16], hidden % 16
        batch.value_cache[block, slot] = value
        out = kind.empty(*batch.query.shape)
        ops.paged_attention(
            out.tensor,
            kind.tensor(batch.query),
            kind.tensor(batch.key_cache),
            kind.tensor(batch.value_cache),
            kind.tensor(batch.block_tables),
            kind.tensor(batch.context_lens),
            kind.tensor(batch.query_starts),
            batch.scale,
            window,
        )
        found = np.isfinite(out.read().astype(np.float64))
        assert not found[touched].any()
        assert np.delete(found, touched, axis=0).all()


def test_out_may_be_the_query(kind):
    heads = Heads(4, 2, 64)
    batch = Batch(kind, heads, MIXED)
    indices = batch.block_tables, batch.context_lens, batch.query_starts
    both = kind.place(batch.query)
    caches = batch.key_cache, batch.value_cache
    ops.paged_attention(
        both.tensor,
        both.tensor,
        *(kind.tensor(each) for each in (*caches, *indices)),
        batch.scale,
        plan=plan_for(kind, heads, *indices[1:]),
    )
    expected = paged_attention(batch.query, *caches, *indices, batch.scale)
    assert_close(both.read(), expected, kind.dtype, absolute=tolerance(kind))


def test_views_of_joint_tensors(kind):
    """The query of a joint projection, and caches of one allocation, heads before slots."""
    heads = Heads(4, 2, 64)
    batch = Batch(kind, heads, MIXED)
    tokens = len(batch.query)
    joint = kind.place(np.concatenate([batch.query, kind.draw(tokens, 4, 64)], axis=1))
    caches = np.stack([batch.key_cache, batch.value_cache]).swapaxes(2, 3)
    memory = kind.place(np.ascontiguousarray(caches))
    out = kind.empty(tokens, 4, 64, strided=True)
    indices = batch.block_tables, batch.context_lens, batch.query_starts
    ops.paged_attention(
        out.tensor,
        joint.tensor[:, :4],
        *(memory.tensor[i].swapaxes(1, 2) for i in range(2)),
        *(kind.tensor(each) for each in indices),
        batch.scale,
        plan=plan_for(kind, heads, *indices[1:]),
    )
    expected = paged_attention(
        batch.query, batch.key_cache, batch.value_cache, *indices, batch.scale
    )
    assert_close(out.read(), expected, kind.dtype, absolute=tolerance(kind))


def array(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def integers(*values):
    return np.array(values, np.int32)


def arguments(**changes):
    """Two sequences of 6 and 3 tokens, the last 2 and 1 of which are queries; blocks of 4."""
    call = {
        "out": array(3, 4, 16),
        "query": array(3, 4, 16),
        "key_cache": array(5, 4, 2, 16),
        "value_cache": array(5, 4, 2, 16),
        "block_tables": integers([3, 4], [1, POISON]),
        "context_lens": integers(6, 3),
        "query_starts": integers(0, 2, 3),
        "scale": 1.0,
    }
    return {**call, **changes}


def test_the_arguments_of_the_error_tests_are_right():
    call = arguments()
    ops.paged_attention(**call)
    assert (call["out"] == 1).all()  # the mean of ones


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"block_tables": integers([3, 5], [1, POISON])},
            IndexError,
            "argument 'block_tables' holds 5 at [0, 1]; it takes 0 to 4, the blocks of 'key_cache'",
        ),
        (
            {"block_tables": integers([3, 4], [-1, 0])},
            IndexError,
            "argument 'block_tables' holds -1 at [1, 0]; it takes 0 to 4",
        ),
        (
            {"context_lens": integers(9, 3)},
            ValueError,
            "argument 'context_lens' holds 9 at index 0; it takes 2, the query tokens of that "
            "sequence, to 8, the tokens that a row of 'block_tables' has room for",
        ),
        (
            {"context_lens": integers(6, 0)},
            ValueError,
            "argument 'context_lens' holds 0 at index 1; it takes 1, the query tokens",
        ),
        (
            {"query_starts": integers(0, 2, 4)},
            ValueError,
            "argument 'query_starts' goes from 0 to 4; it takes 0 to 3, the tokens of 'query'",
        ),
        (
            {"query_starts": integers(1, 2, 3)},
            ValueError,
            "argument 'query_starts' goes from 1 to 3; it takes 0 to 3",
        ),
        (
            {"query_starts": integers(0, 5, 3)},
            ValueError,
            "argument 'query_starts' holds 3 at index 2; it takes numbers that never fall "
            "(5 comes before)",
        ),
        ({"query_starts": integers(0, 3)}, ValueError, "argument 'query_starts' has shape (2,)"),
        ({"context_lens": integers(6)}, ValueError, "argument 'context_lens' has shape (1,)"),
        ({"block_tables": integers(3, 4)}, ValueError, "argument 'block_tables' has shape (2,)"),
        (
            {"block_tables": array(2, 2, dtype=np.int64)},
            TypeError,
            "argument 'block_tables' has dtype int64; it takes int32",
        ),
        (
            {"out": array(3, 4, 8)},
            ValueError,
            "argument 'out' has shape (3, 4, 8); it takes (3, 4, 16), the shape of 'query'",
        ),
        (
            {"out": array(3, 4, 16, dtype=np.float16)},
            TypeError,
            "argument 'out' has dtype float16; it takes float32, the dtype of 'query'",
        ),
        (
            {"query": array(3, 4, 16, dtype=np.float64)},
            TypeError,
            "argument 'query' has dtype float64; it takes float32, float16 or bfloat16",
        ),
        (
            {"query": array(3, 3, 16), "out": array(3, 3, 16)},
            ValueError,
            "argument 'query' has shape (3, 3, 16); it takes (tokens, heads, 16) "
            "with a multiple of 2 heads, by 'key_cache'",
        ),
        (
            {"query": array(3, 4, 12)},
            ValueError,
            "argument 'query' has shape (3, 4, 12); "
            "it takes heads of 8 to 256 elements, in steps of 8",
        ),
        ({"query": array(3, 4, 264)}, ValueError, "it takes heads of 8 to 256 elements"),
        ({"query": array(3, 64)}, ValueError, "'query' has shape (3, 64); it takes (tokens, heads"),
        ({"key_cache": array(5, 4, 32)}, ValueError, "argument 'key_cache' has shape (5, 4, 32)"),
        (
            {"value_cache": array(5, 3, 2, 16)},
            ValueError,
            "argument 'value_cache' has shape (5, 3, 2, 16); "
            "it takes (5, 4, 2, 16), the shape of 'key_cache'",
        ),
        (
            {"value_cache": array(5, 4, 2, 8)},
            ValueError,
            "argument 'value_cache' has shape (5, 4, 2, 8); it takes heads of 16 elements, as "
            "'key_cache' has: values of another size than keys have no kernel yet",
        ),
        (
            {"sinks": array(4)},
            ValueError,
            "argument 'sinks' has shape (4,); it takes None: attention sinks have no kernel yet",
        ),
        (
            {"value_scale": 0.5},
            ValueError,
            "argument 'value_scale' is 0.5; it takes 1: caches in FP8 have no kernel yet",
        ),
        ({"scale": np.nan}, ValueError, "argument 'scale' is nan; it takes a finite number"),
        ({"soft_cap": -1.0}, ValueError, "argument 'soft_cap' is -1"),
        (
            {"sliding_window": -1},
            ValueError,
            "argument 'sliding_window' is -1; it takes a number of tokens, or 0 for no window",
        ),
        ({"sliding_window": 2.5}, TypeError, "argument 'sliding_window' takes an integer"),
    ],
)
def test_errors_come_before_anything_is_written(changes, error, message):
    call = arguments(**changes)
    call["out"][...] = 7
    with pytest.raises(error, match="paged_attention: .*" + re.escape(message)):
        ops.paged_attention(**call)
    assert (call["out"] == 7).all()


def test_out_may_not_share_memory_otherwise():
    memory = array(4, 4, 16)
    with pytest.raises(ValueError, match="'out' shares memory with 'query'"):
        ops.paged_attention(**arguments(out=memory[:3], query=memory[1:]))
    cache = array(5, 4, 2, 16)
    with pytest.raises(ValueError, match="'out' shares memory with 'key_cache'"):
        ops.paged_attention(**arguments(key_cache=cache, out=cache.reshape(10, 4, 16)[:3]))


@pytest.mark.gpu
def test_cuda_without_a_plan_is_refused():
    reason = why_not("torch", "cuda", "float32")
    if reason:
        pytest.skip(reason)
    kind = Kind("torch", "cuda", "float32")
    call = {
        name: kind.tensor(value) if isinstance(value, np.ndarray) else value
        for name, value in arguments().items()
    }
    message = "it takes a tensor on the CPU, or a plan beside it, made by plan_attention"
    with pytest.raises(ValueError, match=message):
        ops.paged_attention(**call)
