"""What a publication refuses, leaving the bucket unchanged."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from ci.index import records
from ci.index.records import State
from ci.publish import Conflict, IncompleteSet, PublishError, access, publish
from ci.store import Body, FolderStore, Store
from tests.ci.publish.conftest import Publish
from tests.ci.support.buckets import contents, nightly_of
from tests.ci.support.wheels import Factory, clock


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "bucket", durable=False)


@pytest.mark.parametrize("missing", range(4))
def test_an_incomplete_set_is_never_listed_and_the_last_good_one_stays(
    store: Store, put: Publish, factory: Factory, missing: int
) -> None:
    good = put(1)
    commit = factory.commit(2)
    wheels = factory.wheels(commit)
    left_out = wheels.pop(missing)
    before = contents(store)
    with pytest.raises(IncompleteSet, match=re.escape(f"missing: {left_out.path.name}")):
        publish(store, wheels, commit, factory.matrix, clock=clock)
    after = contents(store)
    changed = {key for key in before.keys() | after if before.get(key) != after.get(key)}
    assert changed == {f"{commit.sha}/status.json", "state/commits.json", "index.html"}
    assert nightly_of(store) == good.sha
    status = access.read(store, records.status(commit.sha))
    assert status is not None
    assert status.state is State.FAILED
    assert left_out.path.name in status.reason
    publish(store, factory.wheels(commit), commit, factory.matrix, clock=clock)
    assert nightly_of(store) == commit.sha


def test_wheels_that_do_not_belong_are_refused(store: Store, factory: Factory) -> None:
    one, other = factory.commit(1), factory.commit(2)
    wheels = factory.wheels(one)
    with pytest.raises(IncompleteSet, match=r"not of this set: vllm-0\.5\.5\.dev2"):
        publish(store, [*wheels, factory.wheels(other)[1]], one, factory.matrix)
    with pytest.raises(IncompleteSet, match="given twice"):
        publish(store, [*wheels, wheels[0]], one, factory.matrix)


@pytest.mark.parametrize("changes", [{"commit": "0" * 40}, {"variant": "cu118"}, {"dirty": True}])
def test_a_wheel_of_another_build_is_refused(
    store: Store, factory: Factory, changes: dict[str, object]
) -> None:
    commit = factory.commit(1)
    *others, last = factory.wheels(commit)
    assert last.build.variant == "cu121"
    wrong = dataclasses.replace(last, build=dataclasses.replace(last.build, **changes))
    with pytest.raises(PublishError, match=r"was built from commit .* it is to be published as"):
        publish(store, [*others, wrong], commit, factory.matrix)
    assert contents(store) == {}


def test_a_dirty_tree_is_refused(store: Store, factory: Factory) -> None:
    commit = factory.commit(1)
    dirty = dataclasses.replace(commit, dirty=True)
    with pytest.raises(PublishError, match="uncommitted changes"):
        publish(store, factory.wheels(commit), dirty, factory.matrix)
    assert contents(store) == {}


def test_another_content_for_a_published_name_is_refused_with_both_digests(
    store: Store, put: Publish, factory: Factory
) -> None:
    commit = put(1)
    before = contents(store)
    others = factory.wheels(commit, payload=b"not reproducible")
    with pytest.raises(Conflict) as caught:
        publish(store, others, commit, factory.matrix)
    there = factory.wheels(commit)[0].sha256
    assert there in str(caught.value)
    assert others[0].sha256 in str(caught.value)
    assert contents(store) == before


def test_another_content_in_an_unfinished_upload_is_refused_too(
    store: Store, factory: Factory
) -> None:
    commit = factory.commit(1)
    first = factory.wheels(commit)[-1]
    key = f"{commit.sha}/{first.path.name}"
    access.ensure(store, key, Body.file(first.path))
    before = contents(store)
    with pytest.raises(Conflict):
        publish(store, factory.wheels(commit, payload=b"other"), commit, factory.matrix)
    assert contents(store) == before
