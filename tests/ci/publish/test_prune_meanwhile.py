"""`prune`, and between any two of its steps another command: nothing that is needed is removed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ci.index import records
from ci.index.records import State
from ci.publish import access, begin, care, prune, publish
from ci.publish.errors import PublishError
from ci.publish.reindex import manifests_in, reindex
from ci.publish.site import publish_site
from ci.store import FolderStore, NotFound, Store
from tests.ci.publish.test_interleaved import Command, Pausing, promoting, publishing, yanking
from tests.ci.support.buckets import nightly_of
from tests.ci.support.faults import Reader
from tests.ci.support.labs import FolderLab, memory_folder
from tests.ci.support.wheels import Factory, clock

LATER = datetime(2030, 1, 1, tzinfo=timezone.utc)
STRIDE = 3  # there is time for every third step
PENDING = 5  # a commit whose publication began and never ended


def pruning(store: Store, factory: Factory) -> None:
    decisions = prune.plan(store, keep=0, older_than=timedelta(days=30), now=LATER)
    prune.prune(store, decisions, now=LATER, report=lambda step: None)


def publishing_now(store: Store, factory: Factory) -> None:
    commit = factory.commit(PENDING)
    publish(store, factory.wheels(commit), commit, factory.matrix, clock=lambda: LATER)


def pinning(store: Store, factory: Factory) -> None:
    care.pin(store, factory.commit(1).sha, "a paper used it")


def documenting(store: Store, factory: Factory) -> None:
    site = factory.folder / "site"
    site.mkdir(exist_ok=True)
    (site / "index.html").write_text("documentation")
    publish_site(store, factory.commit(1).sha, site, lambda step: None)


def releasing(store: Store, factory: Factory) -> None:
    commit = factory.commit(1)
    publish(store, factory.release(commit), commit, factory.matrix, release=True, clock=clock)


# The bucket holds 1 and 2, which is the nightly, and has begun with another one.
OTHERS = {
    "pinning": pinning,
    "promoting": promoting(1),
    "yanking the nightly": yanking(2),
    "releasing": releasing,
    "publishing again": publishing(1),
    "publishing what was abandoned": publishing(PENDING),
    "documenting": documenting,
}


def every_moment(
    lab: FolderLab, factory: Factory, first: Command, second: Command
) -> Iterator[FolderStore]:
    """The bucket after the two, for steps of the first before which the second ran."""
    before = lab.copy(None)
    for number in (1, 2):
        publishing(number)(before, factory)
    begin(before, factory.commit(PENDING), clock=clock)
    at, steps = 0, 1
    while at <= steps:
        store = lab.copy(before)

        def meanwhile(store: Store = store) -> None:
            with contextlib.suppress(PublishError):  # it is told that the commit goes
                second(store, factory)

        pausing = Pausing(store, lab.breaker, Reader(lab.peek(store)), at=at, meanwhile=meanwhile)
        with contextlib.suppress(PublishError, NotFound):
            first(pausing, factory)
        yield store
        lab.drop(store)
        steps = len(pausing.calls)
        at += STRIDE


def check(store: FolderStore, factory: Factory) -> None:
    """What is listed, the nightly, or pinned, is whole."""
    nightly = access.read(store, records.NIGHTLY).unit
    for unit in (*access.read(store, records.NIGHTLIES).units, nightly):
        assert unit is not None
        for file in unit.files:
            assert store.head(unit.prefix + file.name).sha256 == file.sha256
    whole = {manifest.unit.number for manifest in manifests_in(store)}
    for number in (1, 2, PENDING):
        status = access.read(store, records.status(factory.commit(number).sha))
        assert status is not None
        assert status.pinned is None or number in whole
        assert number in whole or status.state is not State.COMPLETE


@pytest.mark.parametrize("name", [name for name in OTHERS if name != "documenting"])
def test_what_others_need_meanwhile_stays(factory: Factory, tmp_path: Path, name: str) -> None:
    one = factory.of_default()
    with memory_folder(tmp_path) as folder:
        for store in every_moment(FolderLab(folder), one, pruning, OTHERS[name]):
            check(store, one)
            assert nightly_of(store)


@pytest.mark.parametrize(
    "name", ["pinning", "promoting", "releasing", "publishing again", "documenting"]
)
def test_who_needs_what_was_removed_meanwhile_is_told(
    factory: Factory, tmp_path: Path, name: str
) -> None:
    one = factory.of_default()
    with memory_folder(tmp_path) as folder:
        for store in every_moment(FolderLab(folder), one, OTHERS[name], pruning):
            check(store, one)


def test_an_upload_that_was_removed_meanwhile_is_not_listed_and_can_be_published_again(
    factory: Factory, tmp_path: Path
) -> None:
    one = factory.of_default()
    sha = one.commit(PENDING).sha
    seen = set()
    with memory_folder(tmp_path) as folder:
        for store in every_moment(FolderLab(folder), one, publishing_now, pruning):
            status = access.read(store, records.status(sha))
            assert status is not None
            seen.add(status.state)
            if status.state is State.PRUNED:
                listed = access.read(store, records.NIGHTLIES).units
                assert sha not in {unit.name for unit in listed}
                pruning(store, one)
                publishing_now(store, one)
                assert nightly_of(store) == sha
                assert reindex(store, one.matrix, lambda step: None).written == ()
    assert State.PRUNED in seen
