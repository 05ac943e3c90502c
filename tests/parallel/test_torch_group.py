"""Exchanges of torch.distributed: each rank here is a thread, with a process group of its own."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch
from torch.distributed import HashStore

from tests.waiting import PATIENCE
from vllm.parallel.group import SingleGroup
from vllm.parallel.torch_group import LostPeerError, connect_gloo

SIZES = [2, 3, 4]


def run_ranks(size, call, seconds=PATIENCE):
    """What `call` returns in each rank, of a group or of how it failed."""
    store, timeout = HashStore(), timedelta(seconds=seconds)
    groups = []  # they live until all ranks have ended: another one may still be receiving

    def rank(index):
        group = connect_gloo(store, index, size, timeout=timeout, address="127.0.0.1")
        groups.append(group)
        return call(group)

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(rank, range(size)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", SIZES)
def test_all_ranks_get_the_sum(size, dtype):
    with torch.inference_mode():
        whole = torch.arange(24, dtype=dtype).view(4, 6)
    # Not contiguous, and made in inference mode, as what layers give may be.
    results = run_ranks(size, lambda group: group.all_reduce(whole.t() * (group.rank + 1)))
    expected = whole.t() * sum(range(1, size + 1))
    assert all(torch.equal(result, expected) for result in results)


@pytest.mark.parametrize("size", SIZES)
def test_rank_0_gets_all_parts_beside_each_other(size):
    whole = torch.arange(5 * 2 * size, dtype=torch.float32).view(5, -1)
    first, *others = run_ranks(size, lambda group: group.gather(whole.chunk(size, 1)[group.rank]))
    assert torch.equal(first, whole)
    assert others == [None] * (size - 1)


@pytest.mark.parametrize("size", SIZES)
def test_all_ranks_get_what_the_first_has(size):
    def call(group):
        tensor = torch.full((1000,), group.rank + 7, dtype=torch.uint8)
        group.broadcast(tensor)
        return tensor.unique().tolist()

    assert run_ranks(size, call) == [[7]] * size


def test_a_rank_that_does_not_come_is_a_lost_peer():
    given_up = threading.Event()

    def call(group):
        group.gather(torch.ones(1))
        if group.rank:
            given_up.wait(PATIENCE)
            return None
        with pytest.raises(LostPeerError, match="exchange 2 between ranks: "):
            group.gather(torch.ones(1))
        given_up.set()
        return group.entered, group.waiting

    assert run_ranks(2, call, seconds=2) == [(2, False), None]


def test_others_see_who_waits():
    groups = {}

    def call(group):
        groups[group.rank] = group
        while len(groups) < 2:
            time.sleep(0.01)
        if group.rank:
            while not groups[0].waiting:
                time.sleep(0.01)
            seen = groups[0].entered, group.entered
            group.all_reduce(torch.ones(1))
            return seen
        group.all_reduce(torch.ones(1))
        return group.entered, group.waiting

    assert run_ranks(2, call) == [(1, False), (1, 0)]


def test_one_process_exchanges_nothing():
    tensor = torch.ones(2, 3)
    assert SingleGroup().all_reduce(tensor) is tensor
    assert SingleGroup().gather(tensor) is tensor
