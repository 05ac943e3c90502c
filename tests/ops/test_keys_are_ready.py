from __future__ import annotations

import numpy as np
import pytest

from vllm import ops


def ready(lengths, tables, queries=None, size=16):
    queries = [1] * len(lengths) if queries is None else queries
    starts = np.concatenate([[0], np.cumsum(queries)]).astype(np.int32)
    width = max(map(len, tables))
    rows = np.array([row + [-1] * (width - len(row)) for row in tables], np.int32)
    return ops.keys_are_ready(np.array(lengths, np.int32), starts, rows, size)


def test_sequences_of_their_own_are():
    assert ready([5, 16, 33], [[1], [2], [3, 4, 5]])


def test_several_query_tokens_are_not():
    assert not ready([5, 16], [[1], [2]], queries=[1, 2])
    assert ready([5, 16], [[1], [2]], queries=[1, 0])


def test_shared_blocks_of_earlier_steps_are():
    assert ready([33, 40, 48], [[1, 2, 3], [1, 2, 4], [1, 2, 5]])


def test_a_block_that_another_sequence_fills_in_this_step_is_not():
    assert not ready([32, 40], [[1, 2], [1, 2, 3]])
    assert not ready([40, 32], [[1, 2, 3], [1, 2]])
    assert ready([31, 40], [[1, 2], [1, 9, 3]])
    assert ready([32, 40], [[1, 2], [1, 9, 3]])


def test_a_sequence_without_a_query_neither_writes_nor_reads():
    assert ready([32, 40], [[1, 2], [1, 2, 3]], queries=[0, 1])
    assert ready([32, 40], [[1, 2], [1, 2, 3]], queries=[1, 0])


def test_many_that_fill_blocks_at_once():
    tables = [[100 * i + j for j in range(4)] for i in range(64)]
    assert ready([64] * 64, tables)
    tables[63][1] = tables[5][1]
    assert ready([64] * 64, tables)  # an earlier step filled it
    assert not ready([64] * 5 + [32] + [64] * 58, tables)


def test_empty_steps():
    none = np.zeros(0, np.int32)
    assert ops.keys_are_ready(none, np.zeros(1, np.int32), np.zeros((0, 3), np.int32), 16)


def test_what_does_not_fit_is_refused():
    one = np.ones(1, np.int32)
    table = np.zeros((1, 2), np.int32)
    with pytest.raises(ValueError, match="'block_size' is 0"):
        ops.keys_are_ready(one, np.array([0, 1], np.int32), table, 0)
    with pytest.raises(ValueError, match="'query_starts' has shape"):
        ops.keys_are_ready(one, np.array([0], np.int32), table, 16)
    with pytest.raises(TypeError, match="'block_tables' has dtype int64"):
        ops.keys_are_ready(one, np.array([0, 1], np.int32), table.astype(np.int64), 16)
