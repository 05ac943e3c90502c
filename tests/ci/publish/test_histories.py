"""Random histories of publications, faults, yanks, promotions and prunings, checked by a model."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ci.index import records
from ci.publish import access, publish
from ci.publish.care import promote, yank
from ci.publish.prune import plan, prune
from ci.publish.reindex import reindex
from ci.store import Store, StoreError
from tests.ci.conftest import client_of
from tests.ci.support.buckets import nightly_of
from tests.ci.support.faults import KINDS, POSITIONS, Crash, Fault, Probe, Reader
from tests.ci.support.labs import FolderLab, Lab, S3Lab, memory_folder
from tests.ci.support.s3 import Endpoint
from tests.ci.support.wheels import Factory, clock

LISTED = 3  # so that the index drops commits within a short history
NUMBERS = st.integers(1, 6)
FAULTS = st.builds(Fault, st.integers(0, 120), st.sampled_from(POSITIONS), st.sampled_from(KINDS))
LATER = datetime(2030, 1, 1, tzinfo=timezone.utc)


class Histories(RuleBasedStateMachine):
    """The model: which commits are complete, listed and yanked, and which is the nightly.

    `unsettled` are commits whose publication stopped somewhere: until each is published again,
    only what must always hold is asserted, and what the records say is taken over.
    """

    lab: Lab
    factory: Factory

    def __init__(self) -> None:
        super().__init__()
        self.store: Store = self.lab.copy(None)
        self.reader = Reader(self.lab.peek(self.store))
        self.complete: set[int] = set()
        self.listed: list[int] = []
        self.yanked: set[int] = set()
        self.nightly: int | None = None
        self.highest = 0
        self.unsettled: set[int] = set()

    def teardown(self) -> None:
        self.lab.drop(self.store)

    def probe(self, fault: Fault | None = None) -> Probe:
        return Probe(self.store, self.lab.breaker, self.reader, fault)

    def sha(self, number: int) -> str:
        return self.factory.commit(number).sha

    def publish(self, store: Probe, number: int) -> None:
        commit = self.factory.commit(number)
        publish(store, self.factory.wheels(commit), commit, self.factory.matrix, clock=clock)

    @rule(number=NUMBERS)
    def publishes(self, number: int) -> None:
        self.publish(self.probe(), number)
        self.unsettled.discard(number)
        self.complete.add(number)
        self.listed = sorted({*self.listed, number}, reverse=True)[:LISTED]
        if number > self.highest and number not in self.yanked:
            self.nightly = self.highest = number
        self.leaves_a_yanked_nightly()

    @rule(number=NUMBERS, fault=FAULTS)
    def publishes_and_something_breaks(self, number: int, fault: Fault) -> None:
        try:
            self.publish(self.probe(fault), number)
        except (StoreError, Crash):
            self.unsettled.add(number)
        else:
            self.publishes(number)

    @precondition(lambda self: self.unsettled)
    @rule()
    def publishes_again_what_stopped(self) -> None:
        """In the order of a queue, oldest first; then the model is what the records say."""
        for number in sorted(self.unsettled):
            self.publish(self.probe(), number)
            self.complete.add(number)
        self.unsettled.clear()
        listed = access.read(self.store, records.NIGHTLIES).units
        assert {unit.number for unit in listed} <= self.complete
        self.listed = [unit.number for unit in listed]
        nightly = access.read(self.store, records.NIGHTLY)
        assert nightly.unit is not None
        assert nightly.unit is not None
        self.nightly, self.highest = nightly.unit.number, nightly.newest_number
        assert self.highest >= max(self.complete - self.yanked, default=0)

    @precondition(lambda self: not self.unsettled)
    @rule(number=NUMBERS, yanks=st.booleans())
    def yanks_or_takes_it_back(self, number: int, yanks: bool) -> None:
        if number not in self.complete:
            return
        yank(self.probe(), self.sha(number), "broken" if yanks else None)
        (self.yanked.add if yanks else self.yanked.discard)(number)
        self.leaves_a_yanked_nightly()

    def leaves_a_yanked_nightly(self) -> None:
        fine = [number for number in self.listed if number not in self.yanked]
        if self.nightly in self.yanked and fine:
            self.nightly = fine[0]
            self.highest = max(self.highest, fine[0])

    @precondition(lambda self: not self.unsettled)
    @rule(number=NUMBERS)
    def promotes(self, number: int) -> None:
        if number not in self.complete - self.yanked:
            return
        promote(self.probe(), self.sha(number))
        self.nightly, self.highest = number, max(self.highest, number)

    @precondition(lambda self: not self.unsettled)
    @rule(keep=st.integers(0, 3))
    def prunes(self, keep: int) -> None:
        decisions = plan(self.store, keep=keep, older_than=timedelta(days=30), now=LATER)
        prune(self.probe(), decisions, now=LATER, report=lambda step: None)
        kept = set(sorted(self.complete, reverse=True)[:keep])
        self.complete &= kept | {self.nightly}  # type: ignore[arg-type]
        self.listed = [number for number in self.listed if number in self.complete]

    @invariant()
    def what_is_complete_has_a_manifest(self) -> None:
        for number in range(1, 7):
            if number not in self.unsettled:
                there = access.look(self.store, f"{self.sha(number)}/manifest.json") is not None
                assert there == (number in self.complete), number

    @precondition(lambda self: not self.unsettled)
    @invariant()
    def the_bucket_is_as_the_model(self) -> None:
        listed = access.read(self.store, records.NIGHTLIES).units
        assert [unit.number for unit in listed] == self.listed
        assert nightly_of(self.store) == (self.sha(self.nightly) if self.nightly else None)
        if self.complete:
            assert reindex(self.store, self.factory.matrix, lambda step: None).written == ()

    @precondition(lambda self: self.nightly is not None and not self.unsettled)
    @invariant()
    def the_alias_is_the_nightly(self) -> None:
        assert self.nightly is not None
        wheels = self.factory.wheels(self.factory.commit(self.nightly))
        for wheel in wheels:
            if ".dev" not in wheel.version:
                key = f"nightly/{wheel.path.name}"
                for address in (*self.store.aliases(key), key):
                    assert self.store.head(address).sha256 == wheel.sha256


def run(lab: Lab, factory: Factory, examples: int, steps: int) -> None:
    class HistoriesOfLab(Histories):
        pass

    HistoriesOfLab.lab = lab
    HistoriesOfLab.factory = dataclasses.replace(
        factory, matrix=dataclasses.replace(factory.matrix, nightlies=LISTED)
    )
    run_state_machine_as_test(
        HistoriesOfLab,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_histories_on_a_folder(factory: Factory, tmp_path: Path) -> None:
    with memory_folder(tmp_path) as folder:
        run(FolderLab(folder), factory, examples=30, steps=12)


@pytest.mark.usefixtures("impatient")
def test_histories_on_s3(factory: Factory, s3_endpoint: Endpoint) -> None:
    run(S3Lab(s3_endpoint, client_of(s3_endpoint.url)), factory, examples=3, steps=6)
