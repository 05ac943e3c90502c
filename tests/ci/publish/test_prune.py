"""A plan says of each commit why it stays or goes, and in which order its files go."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from ci.git import Commit
from ci.index import records
from ci.index.records import CommitStatus, State
from ci.publish import access, begin, care, fail, prune, publish
from ci.publish.plan import instant
from ci.publish.view import View
from ci.store import Body, Store
from tests.ci.publish.conftest import Publish
from tests.ci.support.buckets import contents
from tests.ci.support.wheels import CLOCK, Factory, clock

MONTH = timedelta(days=30)
LATER = CLOCK + MONTH + timedelta(seconds=1)
AT = instant(CLOCK)
BEFORE = instant(LATER - MONTH)


def plan(store: Store, keep: int, now: datetime = LATER) -> dict[str, tuple[bool, str]]:
    """Commit → whether it goes, and why."""
    decisions = prune.plan(store, keep=keep, older_than=MONTH, now=now)
    return {decision.unit: (decision.removed, decision.why) for decision in decisions}


def mark(store: Store, commit: str) -> None:
    """As `prune` does before it removes anything."""

    def change(status: CommitStatus | None) -> CommitStatus | None:
        return status and replace(status, state=State.PRUNED, pinned=None)

    View(store).update(records.status(commit), change)


def test_why_each_commit_stays_or_goes(store: Store, put: Publish, factory: Factory) -> None:
    old, pinned, promoted, released, *newest = (put(number).sha for number in range(1, 7))
    care.pin(store, pinned, "a paper used it")
    care.promote(store, promoted)
    wheels = factory.release(factory.commit(4))
    publish(store, wheels, factory.commit(4), factory.matrix, release=True, clock=clock)
    assert plan(store, keep=2) == {
        old: (True, f"older than {BEFORE}, and not among the newest 2"),
        pinned: (False, "it is pinned: a paper used it"),
        promoted: (False, "it is the nightly"),
        released: (False, "release v0.5.4 was made from it"),
        **dict.fromkeys(newest, (False, "it is among the newest 2")),
    }
    assert plan(store, keep=1)[newest[0]][0]
    # It was published at that very second.
    assert plan(store, keep=2, now=CLOCK + MONTH)[old] == (False, f"it was published at {AT}")
    mark(store, old)
    mark(store, promoted)  # before it was promoted
    found = plan(store, keep=9)
    assert found[old] == (True, "its removal was interrupted")
    assert found[promoted] == (False, "it is the nightly")


def test_why_an_unfinished_commit_stays_or_goes(store: Store, factory: Factory) -> None:
    pending, failed, foreign = (factory.commit(number) for number in (1, 2, 3))
    begin(store, pending, clock=clock)
    fail(store, failed, "no memory", clock=clock)
    store.create(f"{foreign.sha}/notes.txt", Body.of(b"of somebody"))
    nobodys = (False, "it has no status, so this tool may not have written it")
    assert plan(store, keep=0) == {
        pending.sha: (True, f"pending since {AT}, never completed"),
        failed.sha: (True, f"failed since {AT}, never completed"),
        foreign.sha: nobodys,
    }
    assert not any(removed for removed, _ in plan(store, 0, CLOCK + MONTH).values())
    decisions = prune.plan(store, keep=0, older_than=MONTH, now=LATER)
    prune.prune(store, decisions, now=LATER, report=lambda step: None)
    assert plan(store, keep=0, now=LATER + MONTH) == {
        **dict.fromkeys([pending.sha, failed.sha], (False, "it was removed before")),
        foreign.sha: nobodys,
    }
    store.create(f"{failed.sha}/half.whl", Body.of(b"half"))
    assert plan(store, keep=0)[failed.sha] == (True, "its removal was interrupted")


def releasing(store: Store, factory: Factory, commit: Commit) -> None:
    wheels = factory.release(commit)
    publish(store, wheels, commit, factory.matrix, release=True, clock=clock)


def completing(store: Store, factory: Factory, commit: Commit) -> None:
    publish(store, factory.wheels(commit), commit, factory.matrix, clock=lambda: LATER)


# What happens to commit 1, or to 3, whose upload has only begun → why it stays.
SINCE = {
    "pinned": (1, lambda s, f, c: care.pin(s, c.sha, "a paper used it"), "it was pinned: a paper"),
    "promoted": (1, lambda s, f, c: care.promote(s, c.sha), "it became the nightly"),
    "released": (1, releasing, "release v0.5.4 was made from it"),
    "completed": (3, completing, "it was completed"),
}


@pytest.mark.parametrize("name", SINCE)
def test_what_happened_since_the_plan_counts(
    store: Store, put: Publish, factory: Factory, name: str
) -> None:
    number, happens, why = SINCE[name]
    put(1)
    put(2)
    begin(store, factory.commit(3), clock=clock)
    decisions = prune.plan(store, keep=0, older_than=MONTH, now=LATER)
    assert {d.number for d in decisions if d.removed} == {1, 3}
    commit = factory.commit(number)
    happens(store, factory, commit)
    before = {key: body for key, body in contents(store).items() if key.startswith(commit.sha)}
    done = prune.prune(store, decisions, now=LATER, report=lambda step: None)
    (decision,) = (decision for decision in done if decision.unit == commit.sha)
    assert not decision.removed
    assert decision.why.startswith(f"since the plan was made, {why}")
    assert {k: b for k, b in contents(store).items() if k.startswith(commit.sha)} == before
    assert {d.number for d in done if d.removed} == {1, 3} - {number}


def addresses(store: Store) -> set[str]:
    """All of them: in S3, a file with a `+` has another one with a space."""
    return {entry.key for entry in store.scan("")}


def test_pages_go_before_the_manifest_and_that_before_the_files(
    store: Store, put: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader never sees a link to what is missing."""
    commit = put(1)
    old = commit.sha
    put(2)
    before, gone = addresses(store), []
    delete = type(store).delete

    def record(self: Store, key: str) -> None:
        gone.append(key)
        delete(self, key)

    monkeypatch.setattr(type(store), "delete", record)
    decisions = prune.plan(store, keep=1, older_than=MONTH, now=LATER)
    prune.prune(store, decisions, now=LATER, report=lambda step: None)
    own = {key for key in before if key.startswith(f"{old}/")}
    assert addresses(store) & own == own - set(gone) == {f"{old}/status.json"}
    ranks = [
        0 if "/index." in key or key.endswith("/") else 1 if key.endswith("/manifest.json") else 2
        for key in gone
    ]
    assert ranks == sorted(ranks)
    assert set(ranks) == {0, 1, 2}
    status = access.read(store, records.status(old))
    assert status is not None
    assert status.subject == commit.subject  # pages still say what it was
