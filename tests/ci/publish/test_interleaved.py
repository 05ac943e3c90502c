"""Two commands, the second run between any two steps of the first: both take effect."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ci.index import records
from ci.publish import access, care, publish
from ci.publish.care import NotPublished
from ci.publish.reindex import reindex
from ci.store import Store
from tests.ci.support.buckets import nightly_of
from tests.ci.support.faults import Probe, Reader
from tests.ci.support.labs import FolderLab, memory_folder
from tests.ci.support.wheels import Factory, clock

Command = Callable[[Store, Factory], object]


@dataclass
class Pausing(Probe):
    """Runs an action just before the call of that number."""

    at: int = -1
    meanwhile: Callable[[], object] = lambda: None

    def _do(self, method: str, key: str, call: Callable[[Store], Any]) -> Any:
        if len(self.calls) == self.at:
            self.meanwhile()
        return super()._do(method, key, call)


def publishing(number: int) -> Command:
    def command(store: Store, factory: Factory) -> object:
        commit = factory.commit(number)
        return publish(store, factory.wheels(commit), commit, factory.matrix, clock=clock)

    return command


def yanking(number: int) -> Command:
    return lambda store, factory: care.yank(store, factory.commit(number).sha, "bad")


def promoting(number: int) -> Command:
    return lambda store, factory: care.promote(store, factory.commit(number).sha)


# The bucket holds 1 and 2. What the first command and the second leave, in either order.
CASES = {
    "two commits": (publishing(3), publishing(4), [4, 3, 2, 1], {4}),
    "two commits, the newer first": (publishing(4), publishing(3), [4, 3, 2, 1], {4}),
    "the same commit": (publishing(3), publishing(3), [3, 2, 1], {3}),
    "a commit and a yank of the nightly": (publishing(3), yanking(2), [3, 2, 1], {3}),
    "a yank of the nightly and a commit": (yanking(2), publishing(3), [3, 2, 1], {3}),
    "a commit and its own yank": (publishing(3), yanking(3), [3, 2, 1], {3, 2}),
    "a commit and a rollback": (publishing(3), promoting(1), [3, 2, 1], {3, 1}),
    "a rollback and a commit": (promoting(1), publishing(3), [3, 2, 1], {3, 1}),
    "a yank and a rollback": (yanking(2), promoting(1), [2, 1], {1}),
}


@pytest.mark.parametrize("case", CASES)
def test_both_take_effect(factory: Factory, tmp_path: Path, case: str) -> None:
    first, second, listed, nightly = CASES[case]
    with memory_folder(tmp_path) as folder:
        lab = FolderLab(folder)
        before = lab.copy(None)
        for number in (1, 2):
            publishing(number)(before, factory)
        alone = lab.copy(before)
        counting = Probe(alone, lab.breaker, Reader(lab.peek(alone)))
        first(counting, factory)
        # Every second step here, the others in the case beside it: there is time for so many.
        for at in range(list(CASES).index(case) % 2, len(counting.calls), 2):
            store = lab.copy(before)
            pausing = Pausing(store, lab.breaker, Reader(lab.peek(store)), at=at)

            def meanwhile(store: Store = store) -> None:
                with contextlib.suppress(NotPublished):  # too early for a yank of it
                    second(store, factory)

            pausing.meanwhile = meanwhile
            first(pausing, factory)
            units = access.read(store, records.NIGHTLIES).units
            assert [unit.number for unit in units] == listed, at
            now = nightly_of(store)
            assert now is not None
            assert access.read(store, records.YANKED).reason(now) is None, at
            assert now in {factory.commit(number).sha for number in nightly}, at
            assert reindex(store, factory.matrix, lambda step: None).written == (), at
            lab.drop(store)
