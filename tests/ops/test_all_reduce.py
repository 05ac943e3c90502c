"""What the ops that exchange rows refuse. What they compute needs GPUs: tests/gpu."""

from __future__ import annotations

import numpy as np
import pytest

from vllm.ops.comm import PeerGroup, all_reduce, all_reduce_add_rms_norm, exchange_bytes

ADDRESSES = np.zeros(2, dtype=np.int64)
PEERS = PeerGroup(ADDRESSES, 0, 16, 256, 0)


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype=dtype)


def test_the_memory_of_a_rank_has_two_places_for_each_row_that_may_come():
    turns, row_bytes, ranks = 16 * 4, 256, 2
    assert exchange_bytes(ranks, 16, row_bytes) == turns + 2 * (ranks + 1) * 16 * row_bytes
    assert exchange_bytes(8, 1, 16) == 16 + 2 * 9 * 16  # places begin at multiples of 16


@pytest.mark.parametrize(
    ("peers", "words"),
    [
        (PEERS, r"argument 'input' is on the CPU; it takes CUDA tensors"),
        (PEERS._replace(addresses=None), "argument 'addresses' is None; it takes a tensor"),
        (PEERS._replace(rank=2), "argument 'rank' is 2; it takes 0 to 1"),
        (PEERS._replace(addresses=np.zeros(9, np.int64)), "has 9 elements; it takes an address"),
        (PEERS._replace(row_bytes=24), "16 rows of 24 bytes; it takes 1 or more, of a multiple"),
        (PEERS._replace(rows=0), "has 0 rows of 256 bytes"),
    ],
)
def test_what_is_no_group_is_refused(peers, words):
    with pytest.raises(ValueError, match=f"all_reduce: .*{words}"):
        all_reduce(ones(2, 16), ones(2, 16), peers)
    with pytest.raises(ValueError, match=f"all_reduce_add_rms_norm: .*{words}"):
        all_reduce_add_rms_norm(ones(2, 16), ones(2, 16), ones(16), 1e-6, peers)


def test_tensors_that_do_not_fit_each_other_are_refused():
    with pytest.raises(ValueError, match="argument 'out' has shape"):
        all_reduce(ones(2, 8), ones(2, 16), PEERS)
    with pytest.raises(TypeError, match="argument 'residual' has dtype float16"):
        all_reduce_add_rms_norm(ones(2, 16), ones(2, 16, dtype=np.float16), ones(16), 1e-6, PEERS)
    with pytest.raises(TypeError, match="argument 'addresses' has dtype int32"):
        all_reduce(ones(2, 16), ones(2, 16), PEERS._replace(addresses=np.zeros(2, np.int32)))
    same = ones(2, 16)
    with pytest.raises(ValueError, match="shares memory with 'residual'"):
        all_reduce_add_rms_norm(same, same, ones(16), 1e-6, PEERS)
