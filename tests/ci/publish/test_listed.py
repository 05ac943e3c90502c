"""The records of a commit, and the order in which commits are listed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ci.index import records
from ci.index.fields import Unreadable
from ci.index.records import State
from ci.publish import access, begin, care, fail, publish
from ci.store import FolderStore, Store
from tests.ci.publish.conftest import Publish
from tests.ci.support.buckets import linked, nightly_of
from tests.ci.support.wheels import Factory, clock


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "bucket", durable=False)


def test_a_manifest_says_everything_that_pages_need(
    store: Store, put: Publish, factory: Factory
) -> None:
    commit = put(3)
    manifest = json.loads(store.get(f"{commit.sha}/manifest.json").body)
    assert (manifest["commit"], manifest["number"]) == (commit.sha, 3)
    assert manifest["published"] == "2026-11-05T12:00:00Z"
    assert set(manifest["variants"]) == {"cu118", "cu121"}
    for wheel in factory.wheels(commit):
        (file,) = (file for file in manifest["files"] if file["name"] == wheel.path.name)
        assert file["sha256"] == wheel.sha256
        assert file["size"] == wheel.size
        (tag,) = wheel.tags
        assert file["tags"] == [tag]
        assert wheel.path.name.endswith(f"-{tag}.whl")
        assert file["metadata_sha256"] == hashlib.sha256(wheel.metadata).hexdigest()


def test_where_native_code_was_reused_from_is_recorded(store: Store, factory: Factory) -> None:
    old, new = factory.commit(1), factory.commit(2)
    publish(store, factory.wheels(new), new, factory.matrix, reused_from={"cu118": old.sha})
    manifest = json.loads(store.get(f"{new.sha}/manifest.json").body)
    assert {file["variant"]: file["reused_from"] for file in manifest["files"]} == {
        "cu118": old.sha,
        "cu121": None,
    }


def test_after_a_release_numbers_begin_again_and_nightly_goes_on(
    store: Store, put: Publish, factory: Factory
) -> None:
    put(120)
    later = dataclasses.replace(factory.matrix, version="0.5.5", tag="v0.5.5")
    commit = factory.commit(3, "after the tag")
    wheels = dataclasses.replace(factory, matrix=later).wheels(commit)
    assert publish(store, wheels, commit, later).is_nightly
    assert nightly_of(store) == commit.sha


def test_a_failed_build_is_recorded_and_a_complete_commit_stays_complete(
    store: Store, put: Publish, factory: Factory
) -> None:
    commit = factory.commit(9)
    begin(store, commit, clock=clock)
    assert access.read(store, records.status(commit.sha)).state is State.PENDING
    fail(store, commit, "nvcc:\n  out of memory", clock=clock)
    status = access.read(store, records.status(commit.sha))
    assert (status.state, status.reason) == (State.FAILED, "nvcc: out of memory")
    assert "out of memory" in store.get("index.html").body.decode()
    put(9)
    fail(store, commit, "too late", clock=clock)
    begin(store, commit, clock=clock)
    assert access.read(store, records.status(commit.sha)).state is State.COMPLETE


def test_no_message_of_a_build_or_a_commit_keeps_the_next_commit_from_being_published(
    store: Store, factory: Factory
) -> None:
    failed = factory.commit(1)
    fail(store, failed, "\x1b[1;31merror:\x1b[0m a\0b \udce9 \uffff\u2028" + "x" * 600)
    status = access.read(store, records.status(failed.sha))
    assert status is not None
    assert status.reason == "error: ab \ufffd " + "x" * 488
    named = dataclasses.replace(
        factory.commit(2), subject="caf\udce9 \x07\uffff", changed=("csrc/\udce9\n.cu",)
    )
    publish(store, factory.wheels(named), named, factory.matrix)
    publish(store, factory.wheels(factory.commit(3)), factory.commit(3), factory.matrix)
    feed = ElementTree.fromstring(store.get("nightly/feed.xml").body)
    titles = [title.text or "" for title in feed.iter("{http://www.w3.org/2005/Atom}title")]
    assert titles[-1] == f"{named.sha[:9]} (number 2) caf\ufffd"
    with pytest.raises(Unreadable, match="not written"):
        care.pin(store, named.sha, "two\nlines")
    assert care.pin(store, named.sha, "one line").changed


@pytest.mark.parametrize(
    ("time", "shown"), [(1 << 50, "9999-12-31T23:59:59Z"), (-1, "1970-01-01T00:00:00Z")]
)
def test_a_commit_of_any_time_is_published(
    store: Store, factory: Factory, time: int, shown: str
) -> None:
    commit = dataclasses.replace(factory.commit(1), time=time)
    begin(store, commit, clock=clock)
    status = access.read(store, records.status(commit.sha))
    assert status is not None
    assert status.time == shown


def test_an_index_lists_the_newest_commits_only_and_older_ones_stay_reachable(
    store: Store, factory: Factory
) -> None:
    few = dataclasses.replace(factory.matrix, nightlies=2)
    commits = [factory.commit(number) for number in (1, 2, 3)]
    for commit in commits:
        publish(store, factory.wheels(commit), commit, few)
    links = linked(store.get("whl/nightly/cu121/vllm/index.html").body)
    assert [commit.sha in "".join(links) for commit in commits] == [False, True, True]
    assert store.head(f"{commits[0].sha}/vllm-0.5.4-cp38-abi3-manylinux1_x86_64.whl")
    assert linked(store.get(f"{commits[0].sha}/cu121/vllm/index.html").body)
