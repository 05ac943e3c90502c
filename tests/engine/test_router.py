"""Requests are routed to the replica with their prefix, with balanced load."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from vllm.engine.router import Router


def of(*loads):
    """The loads of replicas that all take requests."""
    return dict(enumerate(loads))


def prompt(*kinds):
    """A prompt of one piece for each kind."""
    return [kind for kind in kinds for _ in range(64)]


def test_equal_beginnings_go_to_one_replica():
    router, loads, first = Router(), of(0, 0, 0, 0), {}
    for kind in range(4):
        first[kind] = router.choose(prompt(kind, 100 + kind), 1, loads)
        loads[first[kind]] += 1
    assert sorted(first.values()) == [0, 1, 2, 3]
    for kind in (2, 0, 3, 1):
        assert router.choose(prompt(kind, 200 + kind), 1, of(0, 0, 0, 0)) == first[kind]


def test_the_longest_known_beginning_counts():
    router = Router()
    assert router.choose(prompt(1, 2), 1, of(0, 0)) == 0
    assert router.choose(prompt(1, 4), 1, of(5, 1)) == 1  # the other has too much
    for kinds, replica in (((1, 4, 5), 1), ((1, 2, 5), 0)):
        assert router.choose(prompt(*kinds), 1, of(9, 9)) == replica


def test_short_prompts_go_where_there_is_least_to_do():
    router = Router()
    assert router.choose([1, 2, 3], 1, of(2, 1, 3)) == 1
    assert router.choose([1, 2, 3], 1, of(2, 3, 1)) == 2


def test_replicas_with_as_little_to_do_take_turns():
    router = Router()
    assert [router.choose([1], 1, of(0, 0, 0)) for _ in range(4)] == [0, 1, 2, 0]
    assert router.choose([1], 1, of(1, 0, 0)) == 1


def test_a_replica_with_nothing_to_do_takes_any_request():
    router = Router()
    assert router.choose(prompt(7), 1, of(1, 0)) == 1
    assert router.choose(prompt(7), 100, of(0, 0)) == 1


LOADS = st.integers(1, 5).flatmap(
    lambda size: st.lists(
        st.lists(st.integers(0, 40), min_size=size, max_size=size), min_size=1, max_size=30
    )
)


@given(LOADS, st.data())
def test_no_replica_gets_more_than_its_share_and_a_quarter(steps, data):
    router = Router()
    for loads in steps:
        kind, length, count = (data.draw(st.integers(0, most)) for most in (2, 300, 8))
        replica = router.choose([kind] * length, count, of(*loads))
        bound = 1.25 * (sum(loads) + count) / len(loads)
        assert loads[replica] == min(loads) or loads[replica] + count <= bound


def test_what_is_remembered_is_bounded():
    """A place of the table has the latest prefix that belongs there."""
    router = Router(array("q", [0]))
    for kind in (1, 2):
        assert router.choose(prompt(kind), 1, of(0, 1)) == 0
    assert router.choose(prompt(2), 1, of(5, 4)) == 0
    assert router.choose(prompt(1), 1, of(5, 4)) == 1  # forgotten: goes where there is less to do


def test_two_routers_that_share_a_table_know_the_same():
    table = array("q", bytes(8 << 16))
    one, other = Router(table), Router(table)
    assert one.choose(prompt(1, 2), 1, of(3, 0)) == 1
    assert other.choose(prompt(1, 5), 1, of(8, 9)) == 1
    assert other.choose(prompt(6), 1, of(0, 9)) == 0
    assert one.choose(prompt(6, 7), 1, of(9, 8)) == 0
    one.forget(1)
    assert other.choose(prompt(1, 2), 1, of(8, 9)) == 0


def test_a_replica_that_is_gone_takes_nothing_and_is_forgotten():
    router = Router()
    assert [router.choose(prompt(kind), 1, of(0, 0, 0)) for kind in (1, 2, 3)] == [0, 1, 2]
    without = {0: 0, 2: 0}
    assert router.choose(prompt(2, 5), 1, without) == 0
    assert router.choose(prompt(3), 1, without) == 2
    router.forget(2)
    assert router.choose(prompt(3), 1, of(1, 0, 1)) == 1  # it came back without its cache
    assert router.choose(prompt(3), 1, {1: 9}) == 1
