from __future__ import annotations

import re

import numpy as np
import pytest

from tests.ops.support import bits
from tests.reference.embedding import embedding
from vllm import ops

ROWS = 50
WIDTHS = [1, 7, 8, 9, 64, 127, 1000, 4096, 5123]


def ids_of(tokens):
    ids = np.random.default_rng(0).integers(0, ROWS, tokens)
    ids[:2] = [0, ROWS - 1][:tokens]
    return ids


@pytest.mark.parametrize("width", WIDTHS)
def test_rows_are_copied(kind, width, strided):
    values = kind.draw(ROWS, width)
    values[3, 0] = np.nan
    table = kind.place(values, strided)
    for tokens in (0, 1, 2, 17):
        ids, out = ids_of(tokens), kind.empty(tokens, width, strided=strided)
        ops.embedding(out.tensor, kind.tensor(ids), table.tensor)
        np.testing.assert_array_equal(bits(out.read()), bits(embedding(ids, values)))


def test_many_tokens_on_many_threads(kind):
    values, ids = kind.draw(ROWS, 127), ids_of(3001)
    out = kind.empty(3001, 127)
    ops.embedding(out.tensor, kind.tensor(ids), kind.tensor(values))
    np.testing.assert_array_equal(bits(out.read()), bits(embedding(ids, values)))


@pytest.mark.parametrize("wrong", [-1, ROWS, 2**40, -(2**63)])
def test_an_id_out_of_range_writes_nothing(cpu_kind, wrong):
    kind, ids = cpu_kind, ids_of(9)
    ids[8] = wrong
    out = kind.empty(9, 16)
    before = bits(out.read())
    message = (
        f"embedding: argument 'ids' holds {wrong} at index 8; "
        f"it takes 0 to {ROWS - 1}, the rows of 'table'"
    )
    with pytest.raises(IndexError, match=re.escape(message)):
        ops.embedding(out.tensor, kind.tensor(ids), kind.tensor(kind.draw(ROWS, 16)))
    np.testing.assert_array_equal(bits(out.read()), before)


@pytest.mark.gpu
@pytest.mark.parametrize("width", [16, 7, 4096])
def test_an_id_out_of_range_makes_nan_on_cuda(cuda_kind, width):
    kind, values, ids = cuda_kind, cuda_kind.draw(ROWS, width), ids_of(9)
    wrong = [1, 4, 8]
    ids[wrong] = -1, ROWS, 2**62
    out = kind.array(np.ones((9, width)))
    placed = kind.place(out)
    ops.embedding(placed.tensor, kind.tensor(ids), kind.tensor(values))
    found = placed.read()
    assert np.isnan(found[wrong].astype(np.float64)).all()
    right = np.delete(np.arange(9), wrong)
    np.testing.assert_array_equal(bits(found[right]), bits(embedding(ids[right], values)))


def array(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


@pytest.mark.parametrize(
    ("out", "ids", "table", "error", "message"),
    [
        (
            array(3, 8),
            array(3, dtype=np.int32),
            array(5, 8),
            TypeError,
            "argument 'ids' has dtype int32; it takes int64",
        ),
        (
            array(3, 8, dtype=np.float16),
            array(3, dtype=np.int64),
            array(5, 8),
            TypeError,
            "argument 'out' has dtype float16; it takes float32, the dtype of 'table'",
        ),
        (
            array(4, 8),
            array(3, dtype=np.int64),
            array(5, 8),
            ValueError,
            "argument 'out' has shape (4, 8); it takes (3, 8), by 'ids' and 'table'",
        ),
        (
            array(3, 8),
            array(3, dtype=np.int64),
            array(8, 5).T,
            ValueError,
            "argument 'table' has stride 5 in its last dimension",
        ),
        (
            array(3, 8),
            array(3, dtype=np.int64),
            array(8),
            ValueError,
            "argument 'table' has shape (8,); it takes (rows, width)",
        ),
    ],
)
def test_errors(out, ids, table, error, message):
    with pytest.raises(error, match="embedding: " + re.escape(message)):
        ops.embedding(out, ids, table)


def test_out_may_not_be_a_part_of_the_table(plain):
    table = array(5, 8)
    with pytest.raises(ValueError, match="'out' shares memory with 'table'"):
        ops.embedding(table[:3], array(3, dtype=np.int64), table)
