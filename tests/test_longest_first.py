"""Files of tests that take long are handed out first, and folders whole."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]


class Worker:
    """Takes note of what it is given."""

    shutting_down = False
    gateway = SimpleNamespace(id="worker")

    def __init__(self, tests):
        self.tests, self.given = tests, []

    def send_runtest_some(self, indices):
        self.given += [self.tests[index] for index in indices]

    def shutdown(self):
        self.shutting_down = True


def start(tests):
    """A scheduler that has given its first tests to two workers; these workers."""
    pytest.importorskip("xdist", reason="pytest-xdist hands out the tests")
    from tests.longest_first import LongestFirst

    option = SimpleNamespace(loadscopereorder=True, tx=["popen"] * 2)
    config = SimpleNamespace(option=option, getvalue=lambda name: getattr(option, name))
    scheduler = LongestFirst(config)
    workers = [Worker(tests), Worker(tests)]
    for worker in workers:
        scheduler.add_node(worker)
        scheduler.add_node_collection(worker, tests)
    scheduler.schedule()
    return scheduler, workers


def test_the_long_ones_are_first_and_together():
    pytest.importorskip("xdist", reason="pytest-xdist hands out the tests")
    from tests.longest_first import LONG

    folder, *files = LONG
    assert folder.endswith("/")
    short = [f"tests/test_short.py::test_{number}" for number in range(9)]
    first = [f"{folder}test_{name}.py::test" for name in "ab"]
    second = [f"{files[0]}::test"]
    tests = [*short, second[0], first[0], "tests/test_one.py::test", first[1]]
    _, workers = start(tests)
    assert [worker.given[: len(long)] for worker, long in zip(workers, (first, second))] == [
        first,
        second,
    ]


def test_a_test_in_which_a_worker_ends_is_not_run_again():
    tests = [f"tests/test_{file}.py::test_{number}" for file in "abc" for number in range(4)]
    scheduler, (one, other) = start(tests)
    assert one.given[:4] == tests[:4]
    scheduler.mark_test_complete(one, 0)
    assert scheduler.remove_node(one) == tests[1]
    for index in map(tests.index, list(other.given)):
        scheduler.mark_test_complete(other, index)
    while not scheduler.tests_finished:
        for index in map(tests.index, other.given):
            scheduler.mark_test_complete(other, index)
    assert sorted(other.given) == [*tests[2:]]
    assert scheduler.remove_node(other) is None


def test_two_workers_end_before_the_next_one_is_ready():
    tests = [f"tests/test_{file}.py::test_{number}" for file in "abc" for number in range(4)]
    scheduler, (one, other) = start(tests)
    new = Worker(tests)
    scheduler.add_node(new)
    assert scheduler.remove_node(one) == tests[0]
    assert scheduler.remove_node(other) == other.given[0]
    assert new.given == []
    scheduler.add_node_collection(new, tests)
    scheduler.schedule()
    assert new.given


def test_they_are_there():
    pytest.importorskip("xdist", reason="pytest-xdist hands out the tests")
    from tests.longest_first import LONG

    assert [part for part in LONG if not (ROOT / part).exists()] == []
