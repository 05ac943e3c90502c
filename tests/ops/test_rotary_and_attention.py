from __future__ import annotations

import numpy as np
import pytest

from tests.ops.support import ROUNDING, Kind, assert_close, bits
from tests.ops.test_paged_attention import Batch, Heads, plan_for, tolerance
from tests.reference.paged_attention import paged_attention
from tests.reference.rotary_and_cache import rotary_and_cache
from vllm import ops

DECODE = [(1, 1), (2, 1), (16, 1), (17, 1), (33, 1), (100, 1)]
MIXED = [(40, 1), (0, 0), (50, 50), (31, 0), (70, 9), (8, 1)]
EPSILON = 1e-6


class Step:
    """One step's heads as the projections give them; their slots hold NaN, as all others that no
    query sees. plan: what CUDA takes beside the arguments."""

    def __init__(self, kind: Kind, heads: Heads, sequences, *, normed=True, window=0, soft_cap=0.0):
        self.kind, self.batch = kind, Batch(kind, heads, sequences, window=window)
        batch = self.batch
        positions, slots = [], []
        for i, (context, count) in enumerate(sequences):
            for position in range(context - count, context):
                positions.append(position)
                slots.append(batch.block_tables[i, position // 16] * 16 + position % 16)
        tokens = len(positions)
        angles = np.outer(
            np.arange(max(context for context, _ in sequences)),
            100.0 ** (-np.arange(heads.size // 2) / heads.size),
        )
        caches = [batch.key_cache.copy(), batch.value_cache.copy()]
        for cache in caches:
            cache.reshape(-1, heads.kv, heads.size)[slots] = np.nan
        self.before = {
            "positions": np.array(positions, np.int64),
            "query": kind.draw(tokens, heads.query, heads.size, seed=1),
            "key": kind.draw(tokens, heads.kv, heads.size, seed=2),
            "value": kind.draw(tokens, heads.kv, heads.size, seed=3),
            "cos_sin_cache": kind.array(np.concatenate([np.cos(angles), np.sin(angles)], axis=1)),
            "key_cache": caches[0],
            "value_cache": caches[1],
            "slot_mapping": np.array(slots, np.int64),
        }
        self.weights = {
            "query_weight": kind.draw(heads.size, seed=4) if normed else None,
            "key_weight": kind.draw(heads.size, seed=5) if normed else None,
        }
        self.indices = batch.block_tables, batch.context_lens, batch.query_starts
        self.options = {"sliding_window": window, "soft_cap": soft_cap}

    def place(self):
        """The arguments by name, on padded memory."""
        placed = {name: self.kind.place(values) for name, values in self.before.items()}
        names = ("block_tables", "context_lens", "query_starts")
        placed.update({name: self.kind.place(each) for name, each in zip(names, self.indices)})
        for name, weight in self.weights.items():
            if weight is not None:
                placed[name] = self.kind.place(weight)
        placed["out"] = self.kind.empty(*self.before["query"].shape)
        return placed

    def run(self, plan, placed):
        tensors = {name: each.tensor for name, each in placed.items()}
        ops.rotary_and_attention(
            **tensors, scale=self.batch.scale, **self.options, epsilon=EPSILON, plan=plan
        )

    def check(self, plan=None):
        if plan is None:
            window = self.options["sliding_window"]
            plan = plan_for(self.kind, self.batch.heads, *self.indices[1:], window)
        placed = self.place()
        self.run(plan, placed)
        wanted = rotary_and_cache(**self.before, **self.weights, epsilon=EPSILON)
        query, key_cache, value_cache = wanted
        dtype = self.kind.dtype
        assert_close(placed["key_cache"].read(), key_cache, dtype, absolute=1e-5)
        np.testing.assert_array_equal(bits(placed["value_cache"].read()), bits(value_cache))
        expected = paged_attention(
            self.kind.array(query),
            self.kind.array(key_cache),
            value_cache,
            *self.indices,
            self.batch.scale,
            **self.options,
        )
        # An element of the query that is rounded the other way is off by a unit in the last place.
        absolute = tolerance(self.kind) + ROUNDING[dtype]
        assert_close(placed["out"].read(), expected, dtype, absolute=absolute)
        for name in set(placed) - {"out", "query", "key_cache", "value_cache"}:
            before = {**self.before, **self.weights}.get(name)
            if before is not None:
                np.testing.assert_array_equal(bits(placed[name].read()), bits(before), name)
        return placed


@pytest.mark.parametrize("sequences", [DECODE, MIXED], ids=["decode", "mixed"])
@pytest.mark.parametrize("normed", [False, True], ids=["plain", "normed"])
@pytest.mark.parametrize(
    "heads",
    [Heads(8, 2, 128), Heads(4, 4, 64), Heads(14, 2, 24)],
    ids=lambda h: "-".join(map(str, h)),
)
def test_it_is_rotation_cache_write_and_attention(kind, heads, sequences, normed):
    Step(kind, heads, sequences, normed=normed).check()


@pytest.mark.parametrize(("window", "soft_cap"), [(5, 0.0), (40, 5.0), (0, 5.0)])
def test_windows_and_soft_caps(kind, window, soft_cap):
    Step(kind, Heads(8, 2, 64), DECODE, window=window, soft_cap=soft_cap).check()


def test_a_slot_of_minus_one_is_not_written(kind):
    """The sequences that have one are padding: nobody reads their results."""
    step = Step(kind, Heads(8, 2, 64), DECODE)
    step.before["slot_mapping"][-1] = -1
    placed = step.place()
    step.run(plan_for(kind, step.batch.heads, *step.indices[1:]), placed)
    _, key_cache, value_cache = rotary_and_cache(**step.before, **step.weights, epsilon=EPSILON)
    assert_close(placed["key_cache"].read(), key_cache, kind.dtype, absolute=1e-5)
    np.testing.assert_array_equal(bits(placed["value_cache"].read()), bits(value_cache))


def test_what_shares_memory_is_refused(kind):
    step = Step(kind, Heads(8, 8, 64), DECODE)
    placed = step.place()
    plan = plan_for(kind, step.batch.heads, *step.indices[1:])
    for name in ("key", "value"):
        with pytest.raises(ValueError, match=f"'out' shares memory with '{name}'"):
            step.run(plan, {**placed, "out": placed[name]})
