"""The plan by itself, as a partition of the work; tests/gpu runs it."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm import ops

# AttentionItem of csrc/params/attention.h.
FIELDS = [
    *("sequence", "token", "position", "kv_head", "row", "rows", "begin", "end"),
    *("first_slot", "split", "splits", "next"),
    *("shared_slot", "shared_row", "shared_splits", "unused"),
]
CHUNK, WARPS, HEAD_SIZE = 16, 4, 128
FOR_DECODE = -2  # `next` of a tile of keys that are shared


def plan(
    sequences,
    heads=8,
    kv_heads=2,
    window=0,
    blocks=12,
    room=None,
    prefill_blocks=0,
    tables=None,
    size=0,
    cluster=0,
    few_items=0,
):
    """sequences: (tokens, of which queries). Returns the items as dicts, and the counts."""
    contexts, queries = np.array(sequences, np.int32).reshape(-1, 2).T
    starts = np.concatenate([[0], np.cumsum(queries)]).astype(np.int32)
    sizes = ops.attention_plan_sizes(
        int(starts[-1]), len(sequences), heads, kv_heads, HEAD_SIZE, blocks
    )
    items = np.full((sizes.items if room is None else room, sizes.item_ints), 99, np.int32)
    contexts = np.ascontiguousarray(contexts)
    arguments = (heads, kv_heads, window, blocks, prefill_blocks, tables, size, cluster, few_items)
    counts = ops.plan_attention(items, contexts, starts, *arguments)
    assert counts[2] <= sizes.prefill_tiles  # the grid of a graph
    return [dict(zip(FIELDS, map(int, item))) for item in items], counts


def lists(items, decode_blocks):
    """The decode items of each block, in order."""
    for index in range(decode_blocks):
        block = []
        while index >= 0:
            block.append(items[index])
            index = items[index]["next"]
        yield block


def chunks(item):
    return -(-item["end"] // CHUNK) - item["begin"] // CHUNK


def lanes_of(kv_heads, blocks):
    """The KV heads that are cut alike: all, or as many as leave fewer than 1 of 32 blocks idle."""
    fitting = (n for n in range(kv_heads, 1, -1) if kv_heads % n == 0)
    return next((n for n in fitting if blocks % n * 32 <= blocks), 1)


def slack(quota):
    return min(16, quota // 8 // WARPS * WARPS)


SEQUENCES = st.lists(
    st.integers(1, 400).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))
    | st.tuples(st.integers(400, 20000), st.integers(0, 3)),
    max_size=12,
)


@given(
    SEQUENCES,
    st.integers(1, 3),
    st.sampled_from([1, 2, 5, 8, 9, 33]),
    st.sampled_from([0, 1, 16, 50]),
    st.integers(1, 40) | st.just(300),
    st.booleans(),
)
def test_every_key_of_every_row_is_planned_once(sequences, kv_heads, group, window, blocks, few):
    few_items = blocks // kv_heads if few else 0
    items, (decode_blocks, first, tiles, used, *_) = plan(
        sequences, group * kv_heads, kv_heads, window, blocks, few_items=few_items
    )
    assert (first, items[first]["rows"]) == (blocks, tiles)  # where a CUDA graph looks for it
    planned = defaultdict(list)  # (sequence, KV head, first row) -> its items
    loads = []
    for block in lists(items, decode_blocks):
        loads.append(sum(map(chunks, block)))
        for item in block:
            assert item["rows"] <= 8
            planned[item["sequence"], item["kv_head"], item["row"]].append(item)
    for item in items[first + 1 : first + 1 + tiles]:
        assert 0 < item["rows"] <= 128
        assert item["first_slot"] % 2 == 0  # two counters are one word of 8 bytes
        for kv_head in range(kv_heads):
            # What splits of 8 rows of a KV head leave lies together, as decode items leave it.
            first_slot = item["first_slot"] + kv_head * 16 * item["splits"]
            piece = {**item, "first_slot": first_slot, "prefill": True}
            planned[item["sequence"], kv_head, item["row"]].append(piece)

    starts = np.concatenate([[0], np.cumsum([queries for _, queries in sequences])])
    slots = []
    for (i, _, row), pieces in planned.items():
        context, queries = sequences[i]
        first_seen = context - queries + row // group
        last_seen = context - queries + (row + pieces[0]["rows"] - 1) // group
        pieces.sort(key=lambda item: item["begin"])
        assert pieces[0]["begin"] == (max(0, first_seen + 1 - window) if window else 0)
        assert pieces[-1]["end"] == last_seen + 1
        for before, after in zip(pieces, pieces[1:]):
            assert before["end"] == after["begin"]
            assert after["begin"] % CHUNK == 0
        assert [item["split"] for item in pieces] == list(range(len(pieces)))
        for item in pieces:
            assert (item["token"], item["position"]) == (starts[i], context - queries)
            assert item["splits"] == len(pieces)
            assert item["first_slot"] == pieces[0]["first_slot"]
        if len(pieces) > 1:
            # Of more than 32, groups of 16 are added up first, in slots of their own.
            groups = -(-len(pieces) // 16) if len(pieces) > 32 else 0
            first_slot = pieces[0]["first_slot"]
            if "prefill" in pieces[0]:
                assert first_slot >= 2 * blocks
                assert len(pieces) <= 32
                slots += range(first_slot, first_slot + 16 * len(pieces))
            else:
                assert first_slot + len(pieces) + groups <= 2 * blocks
                slots += range(first_slot, first_slot + len(pieces) + groups)
    assert len(slots) == len(set(slots))
    assert all(slot < 18 * blocks for slot in slots)
    # Every row, once.
    rows = sorted(
        (i, kv_head, row + offset)
        for (i, kv_head, row), pieces in planned.items()
        for offset in range(pieces[0]["rows"])
    )
    assert rows == [
        (i, kv_head, row)
        for i, (_, queries) in enumerate(sequences)
        for kv_head in range(kv_heads)
        for row in range(queries * group)
    ]
    # No block has more than its share, but for a whole turn of the warps and what spares a cut.
    if loads:
        lanes = lanes_of(kv_heads, blocks)
        share = -(-sum(loads) // (blocks // lanes * lanes))
        quota = -(-share // WARPS) * WARPS
        assert max(loads) <= quota + slack(quota)
    assert all(item["sequence"] == 99 for item in items[used:])  # as they were
    for item in items[decode_blocks:blocks]:
        assert (item["rows"], item["begin"], item["end"], item["next"]) == (0, 0, 0, -1)


def test_short_contexts_are_spread_over_the_blocks():
    """One sequence of 1024 tokens and 8 KV heads: 4 chunks a block, one a warp."""
    _, (decode_blocks, *_) = plan([(1024, 1)], 32, 8, blocks=264)
    assert decode_blocks == 128


def test_kv_heads_are_cut_alike_side_by_side():
    """Neighbouring blocks read the same tokens of neighbouring heads."""
    items, (decode_blocks, *_) = plan([(5000, 1), (300, 1), (7777, 1)], 32, 8, blocks=264)
    assert decode_blocks % 8 == 0
    pieces = [
        [(item["sequence"], item["begin"], item["end"], item["kv_head"]) for item in block]
        for block in lists(items, decode_blocks)
    ]
    for first in range(0, decode_blocks, 8):
        for head in range(8):
            assert pieces[first + head] == [(*piece[:3], head) for piece in pieces[first]]


@pytest.mark.parametrize(
    ("kv_heads", "blocks", "side_by_side"), [(8, 264, 8), (5, 264, 5), (8, 108, 4), (8, 7, 1)]
)
def test_few_blocks_are_left_without_work(kv_heads, blocks, side_by_side):
    items, _ = plan([(100000, 1)] * 3, kv_heads, kv_heads, blocks=blocks)
    heads = [item["kv_head"] for item in items[:side_by_side]]
    assert heads == [*range(side_by_side)]
    assert sum(item["rows"] > 0 for item in items[:blocks]) * 32 >= blocks * 31


def test_a_sequence_is_not_cut_for_the_sake_of_a_few_chunks():
    """256 sequences of 256 chunks on 264 blocks: not 252 chunks each with two cuts in every one."""
    items, (decode_blocks, first, *_) = plan([(4096, 1)] * 256, 8, 1, blocks=264)
    assert (decode_blocks, first) == (256, 264)
    assert all(item["splits"] == 1 for item in items[:256])


def test_a_block_with_little_room_leaves_the_next_sequence_whole():
    """Blocks of 128 chunks, with room for 8 and for 20 more behind the first sequence."""
    items, _ = plan([(120 * CHUNK, 1), (100 * CHUNK, 1)], 1, 1, blocks=2, window=0)
    assert [item["splits"] for item in items[:2]] == [1, 1]
    items, _ = plan([(108 * CHUNK, 1), (148 * CHUNK, 1)], 1, 1, blocks=2, window=0)
    assert items[0]["next"] == 3  # behind the number of prefill items
    assert [items[i]["splits"] for i in (3, 1)] == [2, 2]


def test_groups_of_many_splits_have_slots_behind_theirs():
    """Two sequences of 256 chunks, 4 a block: 64 splits and 4 groups each."""
    items, (decode_blocks, *_) = plan([(4096, 1), (4096, 1)], 8, 1, blocks=132)
    found = {(item["first_slot"], item["splits"]) for item in items[:decode_blocks]}
    assert found == {(0, 64), (64 + 4, 64)}


def test_prefill_tiles_come_longest_first():
    """Of one sequence after another, whose keys they share."""
    items, (decode_blocks, first, tiles, *_) = plan([(100, 100), (1000, 400), (900, 30)])
    assert decode_blocks == 0
    prefill = items[first + 1 : first + 1 + tiles]
    order = [item["sequence"] for item in prefill]
    assert order == [1] * 13 + [2] + [0] * 4  # 4 rows a token, 128 to a tile
    for sequence in (0, 1):
        ends = [item["end"] for item in prefill if item["sequence"] == sequence]
        assert ends == sorted(ends, reverse=True)


def test_few_prefill_tiles_are_cut_over_keys():
    """256 tokens behind 100,000: 8 tiles of 8 KV heads on 132 multiprocessors."""
    items, (_, first, tiles, *_) = plan([(100_256, 256)], 32, 8, blocks=264)
    pieces = items[first + 1 : first + 1 + tiles]
    assert {item["splits"] for item in pieces} == {4}
    assert all(item["end"] % 128 == 0 for item in pieces if item["split"] < 3)
    assert max(item["end"] - item["begin"] for item in pieces) < 26_000


def test_prefill_tiles_are_cut_for_blocks_of_their_own():
    """A tile of each of 8 KV heads, for 132 and for 66 blocks; slots stay behind those of decoding,
    and more blocks than there are slots for do not count."""
    for prefill_blocks, splits in ((0, 16), (66, 8), (1000, 16)):
        items, (_, first, tiles, *_) = plan(
            [(40960, 16), (3000, 1)], 32, 8, 0, 132, prefill_blocks=prefill_blocks
        )
        pieces = items[first + 1 : first + 1 + tiles]
        assert [item["splits"] for item in pieces] == [splits] * splits
        assert {item["first_slot"] for item in pieces} == {2 * 132}


@pytest.mark.parametrize(
    ("tokens", "splits"),
    [((2304, 256), 2), ((32768, 64), 8), ((32768, 16), 16), ((2112, 64), 4), ((768, 256), 1)],
)
def test_pieces_for_the_kernel_of_few_items(tokens, splits):
    """A tile of one KV head, of 8, on 132 multiprocessors: no piece is longer than it has to be, by
    more than 128 keys, and none has fewer than 512 keys, or 256 if the tile has up to 64 rows."""
    items, (_, first, tiles, *_) = plan(
        [tokens], 32, 8, blocks=264, prefill_blocks=132, few_items=16
    )
    assert tiles <= 16
    pieces = items[first + 1 : first + 1 + tiles]
    assert {item["splits"] for item in pieces} == {splits}
    assert max(item["end"] - item["begin"] for item in pieces) <= tokens[0] / splits + 128


def test_pieces_have_the_keys_that_pay_for_them():
    for few_items, splits in ((0, 2), (16, 8)):
        items, (_, first, tiles, *_) = plan(
            [(2064, 16)], 32, 8, blocks=264, prefill_blocks=132, few_items=few_items
        )
        assert [item["splits"] for item in items[first + 1 : first + 1 + tiles]] == [
            splits
        ] * splits


@pytest.mark.parametrize("sequence", [(2048, 2048), (1500, 256), (512, 512)])
def test_enough_or_short_tiles_stay_whole(sequence):
    items, (_, first, tiles, *_) = plan([sequence], 32, 8, blocks=264)
    assert all(item["splits"] == 1 for item in items[first + 1 : first + 1 + tiles])


def test_clusters_take_whole_sequences_while_these_are_short():
    """66 lists for clusters of 4: one for each KV head of each sequence, in groups of 8."""
    items, (lists_used, _, _, _, cluster) = plan(
        [(290, 1), (17, 1), (1, 1), (1500, 1)], 32, 8, blocks=264, cluster=4
    )
    assert (lists_used, cluster) == (32, 4)
    assert [item["sequence"] for item in items[:32:8]] == [0, 1, 2, 3]
    assert all(item["splits"] == 1 and item["next"] < 0 for item in items[:32])


def test_clusters_share_out_long_contexts():
    """One sequence of 1000 chunks and 8 groups of 8 clusters: 4 turns of their 32 warps each."""
    items, (lists_used, *_) = plan([(16_000, 1)], 32, 8, blocks=264, cluster=4)
    assert lists_used == 64
    assert {item["splits"] for item in items[:lists_used]} == {8}
    assert max(map(chunks, items[:lists_used])) == 128


def test_a_step_with_prefill_items_is_not_for_clusters():
    for sequences in ([(40, 1), (300, 300)], [(300, 300)]):
        assert plan(sequences, cluster=4)[1] == plan(sequences)[1]


def test_clusters_of_more_than_all_blocks_are_refused():
    with pytest.raises(
        ValueError, match=re.escape("'cluster' is 13; it takes at most 'blocks', 12")
    ):
        plan([(5, 1)], cluster=13)
    with pytest.raises(ValueError, match="'cluster' is -1"):
        plan([(5, 1)], cluster=-1)


def test_a_step_without_work():
    assert plan([])[1] == (0, 12, 0, 13, 0)
    assert plan([(5, 0)])[1] == (0, 12, 0, 13, 0)


def test_too_few_items_says_how_many():
    with pytest.raises(
        ValueError,
        match=re.escape("'items' has room for 13 items; it takes (16, 16) for this step"),
    ):
        plan([(100, 1), (20, 1), (30, 1), (30, 1)], 1, 1, blocks=12, room=13)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"kv_heads": 0}, ValueError, "'kv_heads' is 0; it takes KV heads, 1 or more"),
        ({"heads": 9}, ValueError, "'heads' is 9; it takes a multiple of 'kv_heads', 2"),
        ({"blocks": 0}, ValueError, "'blocks' is 0; it takes thread blocks to divide"),
        ({"sliding_window": -1}, ValueError, "'sliding_window' is -1"),
        ({"items": np.zeros((20, 15), np.int32)}, ValueError, "it takes (items, 16), contiguous"),
        ({"items": np.zeros((20, 16), np.int64)}, TypeError, "'items' has dtype int64"),
        ({"context_lens": np.array([1], np.int32)}, ValueError, "it takes 2 or more, the query"),
        ({"query_starts": np.array([1, 2], np.int32)}, ValueError, "begins with 1; it takes 0"),
        ({"query_starts": np.array([0, -2], np.int32)}, ValueError, "falls from 0 to -2"),
        ({"query_starts": np.array([0], np.int32)}, ValueError, "one more than 'context_lens'"),
    ],
)
def test_errors(changes, error, message):
    call = {
        "items": np.zeros((20, 16), np.int32),
        "context_lens": np.array([5], np.int32),
        "query_starts": np.array([0, 2], np.int32),
        "heads": 8,
        "kv_heads": 2,
        "sliding_window": 0,
        "blocks": 4,
    }
    with pytest.raises(error, match="plan_attention: .*" + re.escape(message)):
        ops.plan_attention(**{**call, **changes})


@st.composite
def sharing_steps(draw):
    """Groups of decoding sequences that begin alike, with other ones between."""
    size = draw(st.sampled_from([16, 32]))
    sequences, tables, names = [], [], itertools.count()
    for _ in range(draw(st.integers(1, 4))):
        common = [next(names) for _ in range(draw(st.sampled_from([0, 3, 20, 70, 130])))]
        for _ in range(draw(st.integers(1, 90))):
            own = draw(st.integers(1, 3 * size))
            if draw(st.integers(0, 30)) == 0:  # a prompt behind the same beginning
                own, queries = own + 40, draw(st.integers(2, 40))
            else:
                queries = 1
            sequences.append((len(common) * size + own, queries))
            tables.append(common + [next(names) for _ in range(-(-own // size))])
    width = max(map(len, tables)) + draw(st.integers(0, 3))
    rows = [row + [7] * (width - len(row)) for row in tables]  # what lies behind is not looked at
    return sequences, np.array(rows, np.int32), size


@settings(max_examples=60)
@given(
    sharing_steps(),
    st.integers(1, 4),
    st.sampled_from([1, 2, 4, 7, 8, 16]),
    st.sampled_from([1, 40, 264]),
)
def test_keys_that_are_shared_are_planned_once_for_all(step, kv_heads, group, blocks):
    sequences, tables, size = step
    items, (decode_blocks, first, tiles, *_) = plan(
        sequences, group * kv_heads, kv_heads, blocks=blocks, tables=tables, size=size
    )
    starts = np.concatenate([[0], np.cumsum([queries for _, queries in sequences])])
    by_slot, slots = {}, []
    for item in items[first + 1 : first + 1 + tiles]:
        if item["next"] != FOR_DECODE:
            continue
        assert item["position"] + 1 >= item["end"]  # so that each row sees all keys
        for kv_head, eight in itertools.product(range(kv_heads), range(-(-item["rows"] // 8))):
            slot = item["first_slot"] + (kv_head * 16 + eight) * item["splits"] + item["split"]
            by_slot[slot] = {**item, "kv_head": kv_head, "eight": eight}
            slots.append(slot)
    assert len(set(slots)) == len(slots)
    most = (
        ops.attention_plan_sizes(1, 1, kv_heads * group, kv_heads, HEAD_SIZE, blocks).arrivals - 2
    )
    assert all(18 * blocks <= slot < most for slot in slots)
    seen = defaultdict(int)
    for block in lists(items, decode_blocks):
        for item in block:
            for row in range(item["rows"]):
                seen[item["sequence"], item["kv_head"], item["row"] + row] += (
                    item["end"] - item["begin"]
                )
            if item["split"] == 0 and item["shared_splits"]:
                for row in range(item["rows"]):
                    at, keys = item["shared_row"] + item["row"] + row, 0
                    tile = at // 128 * kv_heads + item["kv_head"]
                    slot = item["shared_slot"] + (tile * 16 + at % 128 // 8) * item["shared_splits"]
                    for split in range(item["shared_splits"]):
                        found = by_slot[slot + split]
                        # The row of the tile is the sequence's, and the keys are in its blocks.
                        token, head = divmod(found["row"] + found["eight"] * 8 + at % 8, group)
                        assert found["token"] + token == starts[item["sequence"]]
                        assert head == (item["row"] + row) % group
                        assert (found["kv_head"], found["split"]) == (item["kv_head"], split)
                        assert found["begin"] == keys
                        keys = found["end"]
                        count = keys // size
                        expected = tables[item["sequence"], :count]
                        assert (tables[found["sequence"], :count] == expected).all()
                    assert keys == item["begin"]
                    seen[item["sequence"], item["kv_head"], item["row"] + row] += keys
    for i, (context, queries) in enumerate(sequences):
        if queries == 1:
            for kv_head, row in itertools.product(range(kv_heads), range(group)):
                assert seen[i, kv_head, row] == context


def test_what_is_worth_sharing():
    """Enough keys of enough sequences; whoever shares much less stays outside."""

    def shared(*lengths, own=5):
        tables = [
            [*range(n // 16), *range(1000 + 9 * i, 1009 + 9 * i)] for i, n in enumerate(lengths)
        ]
        width = max(map(len, tables))
        rows = np.array([row + [0] * (width - len(row)) for row in tables], np.int32)
        sequences = [(n + own, 1) for n in lengths]
        items, (_, first, tiles, *_) = plan(sequences, blocks=264, tables=rows, size=16)
        found = items[first + 1 : first + 1 + tiles]
        return {item["sequence"]: item["end"] for item in found}

    assert shared(*[2048] * 64) == {0: 2048}
    assert shared(*[2048] * 64, own=0) == {0: 1920}  # one key at least is each one's own
    assert shared(*[2048] * 8) == {}
    assert shared(*[128] * 250) == {}
    assert shared(*[2048] * 40, *[512] * 100) == {0: 2048, 40: 512}
    assert shared(512, *[2048] * 40, 1500, *[2048] * 40) == {1: 1408}


def test_tables_that_do_not_fit_are_refused():
    contexts, starts = np.array([5], np.int32), np.array([0, 1], np.int32)
    sizes = ops.attention_plan_sizes(1, 1, 8, 2, HEAD_SIZE, 4)
    items = np.zeros((sizes.items, sizes.item_ints), np.int32)
    for tables, size, message in (
        (np.zeros((2, 3), np.int32), 16, "'block_tables' has shape (2, 3); it takes (1, KV"),
        (np.zeros((1, 3), np.int64), 16, "'block_tables' has dtype int64; it takes int32"),
        (np.zeros((1, 3), np.int32), 0, "argument 'block_size' is 0"),
    ):
        with pytest.raises((ValueError, TypeError), match=re.escape(message)):
            ops.plan_attention(items, contexts, starts, 8, 2, 0, 4, 0, tables, size)
