"""Requests find the replica that has their prefix, and none gets too many."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm.engine import router as module
from vllm.engine.router import Router

NAMES = map(str, itertools.count())


def choose(router, tokens, num_new=0):
    name = next(NAMES)
    return name, router.choose(name, tokens, num_new)


def prompt(*kinds, piece=64):
    """A prompt of one piece for each kind."""
    return [kind for kind in kinds for _ in range(piece)]


def test_equal_beginnings_go_to_one_replica():
    router = Router(4)
    first = {kind: choose(router, prompt(kind, 100 + kind)) for kind in range(4)}
    assert sorted(replica for _, replica in first.values()) == [0, 1, 2, 3]
    for name, _ in first.values():
        router.end(name)
    for kind in (2, 0, 3, 1):
        name, replica = choose(router, prompt(kind, 200 + kind))
        assert replica == first[kind][1]
        router.end(name)


def test_the_longest_known_beginning_counts():
    router = Router(2)
    assert choose(router, prompt(1, 2), 100)[1] == 0
    assert choose(router, prompt(3, 3))[1] == 1
    name, replica = choose(router, prompt(1, 4))  # replica 0 has too much for it
    assert replica == 1
    router.end(name)
    assert choose(router, prompt(1, 4, 5))[1] == 1
    assert choose(router, prompt(1, 2, 5))[1] == 0


def test_short_prompts_are_spread():
    router = Router(3)
    assert [choose(router, [1, 2, 3])[1] for _ in range(6)] == [0, 1, 2, 0, 1, 2]


def test_a_replica_with_nothing_to_do_takes_any_request():
    router = Router(2)
    name, replica = choose(router, prompt(7), 1000)
    router.end(name)
    assert choose(router, prompt(7), 1000)[1] == replica


REQUESTS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 300), st.integers(0, 200), st.booleans())
)


@given(st.integers(1, 5), REQUESTS)
def test_loads_are_those_of_the_requests_and_bounded(num_replicas, requests):
    router, running = Router(num_replicas), []
    for kind, length, num_new, one_ends in requests:
        before, tokens = list(router.loads), length + num_new
        name, replica = choose(router, [kind] * length, num_new)
        running.append((name, replica, tokens))
        bound = 1.25 * (sum(before) + tokens) / num_replicas
        least = before[replica] == min(before)
        assert least or before[replica] + tokens <= bound or before[replica] == 0
        if one_ends:
            router.end(running.pop(0)[0])
        for each in range(num_replicas):
            assert router.loads[each] == sum(t for _, r, t in running if r == each)
    for name, _, _ in running:
        router.end(name)
    assert router.loads == [0] * num_replicas


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "_REMEMBERED", 3)
    router = Router(2)
    for kind in (1, 2, 3, 4):
        router.end(choose(router, prompt(kind))[0])
    assert len(router._replicas) == 3
    assert choose(router, prompt(9), 10)[1] == 0
    assert choose(router, prompt(1), 10)[1] == 1  # forgotten: goes to the one with less to do


def test_there_is_a_replica():
    with pytest.raises(ValueError, match="num_replicas must be at least 1, got 0"):
        Router(0)
