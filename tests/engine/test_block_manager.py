"""Reference counts, sharing and eviction of KV blocks, in edge cases."""

from __future__ import annotations

import pytest

from vllm.engine.block_manager import BlockManager, hash_blocks

BLOCK = 4


def compute(manager, seq):
    """What the scheduler and the model do to a sequence that runs to its last token."""
    manager.publish(seq, seq.num_tokens)
    seq.num_computed_tokens = seq.num_tokens


@pytest.mark.parametrize("num_tokens", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_allocation_covers_the_tokens_and_no_more(make_sequence, num_tokens):
    manager = BlockManager(8, BLOCK)
    seq = make_sequence(range(num_tokens))
    assert manager.allocate(seq)
    assert len(seq.block_table) == -(-num_tokens // BLOCK)
    assert len(set(seq.block_table)) == len(seq.block_table)
    assert manager.num_free_blocks == 8 - len(seq.block_table)
    manager.free(seq)
    assert manager.num_free_blocks == 8


@pytest.mark.parametrize(
    ("num_tokens", "num_shared"),
    [
        (BLOCK - 1, 0),
        (BLOCK, 0),  # a full hit would leave nothing to sample from
        (BLOCK + 1, BLOCK),
        (2 * BLOCK, BLOCK),
        (2 * BLOCK + 1, 2 * BLOCK),
    ],
)
def test_equal_prompts_share_full_blocks_but_leave_a_token(make_sequence, num_tokens, num_shared):
    manager = BlockManager(8, BLOCK)
    first, second = make_sequence(range(num_tokens)), make_sequence(range(num_tokens))
    manager.allocate(first)
    compute(manager, first)
    manager.allocate(second)
    assert second.num_computed_tokens == num_shared
    shared = num_shared // BLOCK
    assert second.num_published_blocks == shared
    assert second.block_table[:shared] == first.block_table[:shared]
    assert not set(second.block_table[shared:]) & set(first.block_table)


def test_a_prefix_outlives_its_sequence(make_sequence):
    manager = BlockManager(4, BLOCK)
    first = make_sequence(range(10))
    manager.allocate(first)
    compute(manager, first)
    table = list(first.block_table)
    manager.free(first)
    second = make_sequence(range(10))
    manager.allocate(second)
    assert list(second.block_table[:2]) == table[:2]
    assert second.num_computed_tokens == 8


def test_a_block_is_named_by_all_tokens_before_it(make_sequence):
    manager = BlockManager(8, BLOCK)
    first = make_sequence([1, 1, 1, 1, 2, 2, 2, 2, 0])
    manager.allocate(first)
    compute(manager, first)
    other = make_sequence([9, 9, 9, 9, 2, 2, 2, 2, 0])
    manager.allocate(other)
    assert other.num_computed_tokens == 0
    assert hash_blocks(b"", [1, 2], 2) != hash_blocks(b"", [2, 1], 2)
    assert hash_blocks(b"a", [1, 2], 2) != hash_blocks(b"b", [1, 2], 2)


def test_a_revived_prefix_is_in_use_until_its_last_sequence_ends(make_sequence):
    manager = BlockManager(4, BLOCK)
    first, second, third = (make_sequence(range(2 * BLOCK + 1)) for _ in range(3))
    manager.allocate(first)
    compute(manager, first)
    prefix = first.block_table[:2]
    manager.free(first)
    for seq, free in ((second, 1), (third, 0)):
        manager.allocate(seq)
        assert (seq.block_table[:2], manager.num_free_blocks) == (prefix, free)
    manager.free(second)
    assert manager.num_free_blocks == 1
    other = make_sequence([99])
    manager.allocate(other)
    assert not set(other.block_table) & set(third.block_table)
    manager.free(other)
    manager.free(third)
    assert manager.num_free_blocks == 4


def test_the_first_blocks_of_a_prefix_are_overwritten_last(make_sequence):
    """More sequences can share them."""
    manager = BlockManager(3, BLOCK)
    first = make_sequence(range(3 * BLOCK))
    manager.allocate(first)
    compute(manager, first)
    manager.free(first)
    manager.allocate(make_sequence([99]))
    again = make_sequence(range(2 * BLOCK))
    manager.allocate(again)
    assert again.num_computed_tokens == BLOCK


def test_of_two_equal_blocks_the_first_stays_the_shared_one(make_sequence):
    """Else freeing the first would leave a name for a block that nobody computed."""
    manager = BlockManager(8, BLOCK)
    first, second = make_sequence(range(BLOCK + 1)), make_sequence(range(BLOCK + 1))
    for seq in (first, second):
        manager.allocate(seq)
    for seq in (first, second):
        compute(manager, seq)
    third = make_sequence(range(BLOCK + 1))
    manager.allocate(third)
    assert third.block_table[0] == first.block_table[0] != second.block_table[0]


def test_a_sequence_without_blocks_begins_again(make_sequence):
    manager = BlockManager(8, BLOCK)
    seq = make_sequence(range(2 * BLOCK + 1))
    manager.allocate(seq)
    compute(manager, seq)
    assert (manager.hash_published(), seq.num_published_blocks) == (None, 2)
    manager.free(seq)
    assert (len(seq.block_table), seq.num_computed_tokens, seq.num_published_blocks) == (0, 0, 0)


def test_unnamed_blocks_are_taken_before_cached_ones(make_sequence):
    manager = BlockManager(4, BLOCK)
    cached = make_sequence(range(BLOCK + 1))  # one full block, one of a single token
    manager.allocate(cached)
    compute(manager, cached)
    manager.free(cached)
    manager.allocate(make_sequence([50] * (3 * BLOCK)))
    assert list(manager._hashes).count(None) == 3  # the cached block was not taken
    again = make_sequence(range(BLOCK))
    again.append(BLOCK)
    assert manager.num_free_blocks == 1
    assert not manager.allocate(again)  # the hit revives the last free block: none is left to grow
    assert manager.num_free_blocks == 1


def test_unnamed_blocks_that_were_used_last_are_taken_first(make_sequence):
    manager = BlockManager(3, BLOCK)
    cached = make_sequence(range(BLOCK))
    manager.allocate(cached)
    compute(manager, cached)
    manager.free(cached)
    for _ in range(2):
        unnamed = make_sequence([9] * (2 * BLOCK))  # nothing of it is published
        manager.allocate(unnamed)
        manager.free(unnamed)
    again = make_sequence(range(BLOCK + 1))
    manager.allocate(again)
    assert again.num_computed_tokens == BLOCK


def test_the_least_recently_used_prefix_is_overwritten_first(make_sequence):
    manager = BlockManager(4, BLOCK)
    for start in (0, 100):
        seq = make_sequence(range(start, start + 2 * BLOCK))
        manager.allocate(seq)
        compute(manager, seq)
        manager.free(seq)
    taker = make_sequence([7] * (2 * BLOCK))
    manager.allocate(taker)
    manager.free(taker)
    newer = make_sequence(range(100, 100 + 2 * BLOCK + 1))
    manager.allocate(newer)
    assert newer.num_computed_tokens == 2 * BLOCK
    manager.free(newer)
    older = make_sequence(range(2 * BLOCK + 1))
    manager.allocate(older)
    assert older.num_computed_tokens == 0


def test_refused_allocation_and_growth_change_nothing(make_sequence):
    manager = BlockManager(2, BLOCK)
    seq = make_sequence(range(2 * BLOCK))
    assert not manager.allocate(seq, keep_free=1)
    assert not seq.block_table
    assert manager.allocate(seq)
    seq.append(1)
    assert not manager.grow(seq)
    assert len(seq.block_table) == 2
    other = make_sequence([1])
    assert not manager.allocate(other)
    assert manager.num_free_blocks == 0


def test_growth_happens_at_the_block_edge(make_sequence):
    manager = BlockManager(4, BLOCK)
    seq = make_sequence(range(BLOCK))
    manager.allocate(seq)
    seq.append(1)
    assert manager.grow(seq)
    assert len(seq.block_table) == 2
    for _ in range(BLOCK - 1):
        seq.append(1)
        assert manager.grow(seq)
        assert len(seq.block_table) == 2
    seq.num_pending = 2 * BLOCK  # tokens that are not sampled yet; the last free blocks
    assert manager.grow(seq)
    assert (len(seq.block_table), manager.num_free_blocks) == (4, 0)


def test_prompt_logprobs_and_the_off_switch_share_nothing(make_sequence):
    manager = BlockManager(8, BLOCK)
    first = make_sequence(range(9))
    manager.allocate(first)
    compute(manager, first)
    wanting = make_sequence(range(9), prompt_logprobs=0)
    manager.allocate(wanting)
    assert wanting.num_computed_tokens == 0
    off = BlockManager(8, BLOCK, enable_prefix_caching=False)
    for _ in range(2):
        seq = make_sequence(range(9))
        off.allocate(seq)
        assert seq.num_computed_tokens == 0
        compute(off, seq)
        off.free(seq)
        assert seq.block_hashes == []  # what nobody can find is not hashed


def test_after_a_reset_all_is_free_and_nothing_is_shared(make_sequence):
    manager = BlockManager(8, BLOCK)
    first = make_sequence(range(9))
    manager.allocate(first)
    compute(manager, first)
    manager.reset()
    assert manager.num_free_blocks == 8
    second = make_sequence(range(9))
    manager.allocate(second)
    assert second.num_computed_tokens == 0
    manager.free(second)
    assert manager.num_free_blocks == 8


def test_misuse_is_refused(make_sequence):
    manager = BlockManager(4, BLOCK)
    seq = make_sequence(range(5))
    manager.allocate(seq)
    with pytest.raises(RuntimeError, match="already has blocks"):
        manager.allocate(seq)
    table = seq.block_table[:]
    manager.free(seq)
    seq.block_table.extend(table)
    with pytest.raises(RuntimeError, match="freed twice"):
        manager.free(seq)
    assert BlockManager(1, 1).num_free_blocks == 1
    for num_blocks, block_size in ((0, 16), (16, 0)):
        with pytest.raises(ValueError, match=f"{num_blocks} blocks of {block_size}"):
            BlockManager(num_blocks, block_size)


def test_only_sequences_of_one_salt_share(make_sequence):
    manager = BlockManager(20, 4)
    sequences = {}
    for name, salt in (("plain", ""), ("mine", "a"), ("too", "a"), ("theirs", "b"), ("also", "")):
        seq = sequences[name] = make_sequence(range(9))
        seq.cache_salt = salt
        manager.allocate(seq)
        manager.publish(seq, 9)
    shared = {name: seq.num_computed_tokens for name, seq in sequences.items()}
    assert shared == {"plain": 0, "mine": 0, "too": 8, "theirs": 0, "also": 8}


def test_a_long_prompt_that_shares_nothing_is_hashed_when_there_is_time(make_sequence):
    """Not before its step: the device waits for that."""
    manager = BlockManager(200, 4)
    first, second = make_sequence(range(200)), make_sequence(range(200))
    manager.allocate(first)
    manager.publish(first, 200)
    assert len(first.block_hashes) == 1
    manager.hash_published()
    assert len(first.block_hashes) == first.num_published_blocks == 50
    assert not manager._unpublished  # sequences that end are not kept alive
    manager.allocate(second)
    assert second.num_computed_tokens == 196


@pytest.mark.parametrize("free_first", [False, True])
def test_what_was_published_can_be_shared_at_once(make_sequence, free_first):
    manager = BlockManager(20, 4)
    first, second = make_sequence(range(30)), make_sequence(range(30))
    manager.allocate(first)
    manager.publish(first, 17)
    if free_first:
        manager.free(first)
    manager.allocate(second)
    assert second.num_computed_tokens == 16
