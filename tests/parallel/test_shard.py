"""A rank's shard of a dimension, and the group sizes that a model supports."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.parallel.support import Exchange, ThreadGroup, groups
from vllm.config import ModelError
from vllm.parallel.group import SingleGroup
from vllm.parallel.shard import Shard, require_size, split, split_or_copy

SIZES = st.integers(1, 8)


@given(SIZES, st.integers(1, 50))
def test_the_parts_of_all_ranks_are_the_whole(size, each):
    parts = [split(size * each, group) for group in groups(size)]
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(size * each))
    assert {part.size for part in parts} == {each}


@given(SIZES, SIZES, SIZES)
def test_query_heads_are_with_the_key_heads_that_they_read(kv_heads, copies, group_size):
    """Where key and value heads are copied, and where they are divided."""
    heads = kv_heads * copies * group_size
    for size in {kv_heads, kv_heads * copies}:
        for group in groups(size):
            queries, keys = split(heads, group), split_or_copy(kv_heads, group)
            needed = {head * kv_heads // heads for head in range(queries.start, queries.stop)}
            assert needed == set(range(keys.start, keys.stop))


def test_elements_follow_their_heads():
    assert Shard(1, 3, 8).times(16) == Shard(16, 48, 128)
    assert Shard.all(5) == split(5, SingleGroup())
    assert Shard(16, 48, 128).index == slice(16, 48)


def test_uneven_parts():
    with pytest.raises(ValueError, match="10 elements cannot be divided evenly among 4 ranks"):
        split(10, groups(4)[0])
    with pytest.raises(ValueError, match="3 elements cannot be copied evenly to 4 ranks"):
        split_or_copy(3, groups(4)[0])


SHAPE = {
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "intermediate_size": 96,
    "vocab_size": 480,
}


@pytest.mark.parametrize("size", [1, 2, 4, 12])
def test_sizes_that_divide(size):
    require_size(SimpleNamespace(**SHAPE), size)


@pytest.mark.parametrize(
    ("size", "changes", "message"),
    [
        (5, {}, "num_attention_heads is 12, not a multiple of 5; possible numbers are 1, 2, 4"),
        (3, {}, "num_key_value_heads is 4, neither a multiple nor a divisor"),
        (4, {"intermediate_size": 6}, "intermediate_size is 6, .*; possible numbers are 1, 2$"),
        (2, {"vocab_size": 481}, "vocab_size is 481, .*; possible numbers are 1$"),
    ],
)
def test_impossible_sizes_are_refused_with_the_reason(size, changes, message):
    with pytest.raises(ModelError, match=f"cannot be divided among {size} ranks: {message}"):
        require_size(SimpleNamespace(**{**SHAPE, **changes}), size)


@pytest.mark.parametrize(("rank", "size"), [(2, 2), (-1, 2), (0, 0)])
def test_a_rank_is_of_its_group(rank, size):
    with pytest.raises(ValueError, match="rank must be from 0 to"):
        ThreadGroup(rank, size, Exchange(1))
