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


def test_the_long_ones_are_first_and_together():
    pytest.importorskip("xdist", reason="pytest-xdist hands out the tests")
    from tests.longest_first import LONG, LongestFirst

    folder, *files = LONG
    assert folder.endswith("/")
    short = [f"tests/test_short.py::test_{number}" for number in range(9)]
    first = [f"{folder}test_{name}.py::test" for name in "ab"]
    second = [f"{files[0]}::test"]
    tests = [*short, second[0], first[0], "tests/test_one.py::test", first[1]]
    option = SimpleNamespace(loadscopereorder=True, tx=["popen"] * 2)
    config = SimpleNamespace(option=option, getvalue=lambda name: getattr(option, name))
    scheduler = LongestFirst(config)
    workers = [Worker(tests), Worker(tests)]
    for worker in workers:
        scheduler.add_node(worker)
        scheduler.add_node_collection(worker, tests)
    scheduler.schedule()
    assert [worker.given[: len(long)] for worker, long in zip(workers, (first, second))] == [
        first,
        second,
    ]


def test_they_are_there():
    pytest.importorskip("xdist", reason="pytest-xdist hands out the tests")
    from tests.longest_first import LONG

    assert [part for part in LONG if not (ROOT / part).exists()] == []
