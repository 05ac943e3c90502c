"""A complete commit that is missing from the ledgers: status reports it, reindex lists it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ci.index import records
from ci.index.records import CommitStatus, Record, State
from ci.publish import access, care, publish, status
from ci.publish.reindex import reindex
from ci.store import Body, FolderStore, Store
from tests.ci.publish.conftest import Publish
from tests.ci.support.buckets import contents, nightly_of
from tests.ci.support.wheels import Factory


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "bucket", durable=False)


def put_back(store: Store, saved: dict[str, bytes], record: Record[object]) -> None:
    """What a delayed write does in a store that ignores conditions."""
    store.replace(record.key, Body.of(saved[record.key]), store.head(record.key).etag)


LOST = (records.NIGHTLIES, records.NIGHTLY, records.COMMITS)


@pytest.mark.parametrize("lost", [LOST[:1], LOST[:2], LOST])
def test_what_a_lost_write_left_out_is_named_and_listed_again(
    store: Store, put: Publish, factory: Factory, lost: tuple[Record[object], ...]
) -> None:
    put(1)
    before = contents(store)
    newest = put(2)
    whole = contents(store)
    for record in lost:
        put_back(store, before, record)
    problem = f"{newest.sha} is complete and recent, but not listed: run reindex"
    assert problem in status.of_bucket(store, factory.matrix).problems
    assert problem in status.of_unit(store, newest.sha, factory.matrix).problems
    assert reindex(store, factory.matrix, lambda step: None).listed == (newest.sha,)
    assert status.of_bucket(store, factory.matrix).problems == ()
    assert status.of_unit(store, newest.sha, factory.matrix).problems == ()
    assert nightly_of(store) == newest.sha
    listing = access.read(store, records.COMMITS).commits
    assert (listing[0].unit, listing[0].state) == (newest.sha, State.COMPLETE)
    assert contents(store).keys() == whole.keys()


def test_a_complete_commit_that_is_listed_as_failed_is_corrected(
    store: Store, put: Publish, factory: Factory
) -> None:
    commit = put(1)
    page = store.get("index.html").body
    (right,) = access.read(store, records.COMMITS).commits
    wrong = dataclasses.replace(right, state=State.FAILED, reason="see the log")
    put_back(
        store,
        {records.COMMITS.key: records.COMMITS.dump(records.Commits(9, (wrong,)))},
        records.COMMITS,
    )
    assert reindex(store, factory.matrix, lambda step: None).written == ("index.html",)
    assert access.read(store, records.COMMITS).commits == (right,)
    assert commit.sha.encode() in page
    assert b"see the log" not in store.get("index.html").body
    assert reindex(store, factory.matrix, lambda step: None).written == ()


def test_a_release_is_listed_again_too(store: Store, put: Publish, factory: Factory) -> None:
    put(1)
    commit = factory.commit(0, "the release")
    publish(store, factory.release(commit), commit, factory.matrix, release=True)
    store.delete(records.RELEASES.key)
    assert any(
        problem.startswith("v0.5.4 is complete and recent, but not listed")
        for problem in status.of_unit(store, "v0.5.4", factory.matrix).problems
    )
    assert reindex(store, factory.matrix, lambda step: None).listed == ("v0.5.4",)
    assert [unit.name for unit in access.read(store, records.RELEASES).units] == ["v0.5.4"]


def test_old_or_pruned_commits_are_not_reported(
    store: Store, put: Publish, factory: Factory
) -> None:
    old, going, *_ = [put(number) for number in (1, 2, 3, 4)]
    full = dataclasses.replace(factory.matrix, nightlies=2)
    for commit in (old, going):
        without = access.read(store, records.NIGHTLIES).without(commit.sha)
        put_back(store, {records.NIGHTLIES.key: records.NIGHTLIES.dump(without)}, records.NIGHTLIES)
    reindex(store, full, lambda step: None)
    assert status.of_bucket(store, full).problems == ()
    record = records.status(going.sha)
    found = access.read(store, record)
    assert isinstance(found, CommitStatus)
    pruned = dataclasses.replace(found, state=State.PRUNED, reason="older than a month")
    put_back(store, {record.key: record.dump(pruned)}, record)
    assert [problem.split()[0] for problem in status.of_bucket(store, factory.matrix).problems] == [
        old.sha
    ]
    assert reindex(store, factory.matrix, lambda step: None).listed == (old.sha,)
    assert care.find(store, going.sha).unit.name == going.sha
