"""What a view caches, and when it reads again."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.index import records
from ci.index.records import Yanked
from ci.publish import access
from ci.publish.view import View
from ci.store import Body, FolderStore
from tests.ci.support.faults import FolderBreaker, Probe, Reader

PAGE = "whl/index.json"


@pytest.fixture
def store(tmp_path: Path) -> Probe:
    bucket = FolderStore(tmp_path / "bucket", durable=False)
    return Probe(bucket, FolderBreaker(), Reader(lambda key: None))


def yank(store: Probe, reason: str) -> Yanked:
    """Somebody else's yank."""
    return View(store.inner).update(records.YANKED, lambda old: old.saying("v1", reason))


def rendered(view: View) -> dict[str, bytes]:
    yanked = view.read(records.YANKED)
    return {PAGE: f"{yanked.reason('v1')} {yanked.serial('v1')}".encode()}


def test_records_are_asked_for_once_and_again_after_a_look(store: Probe) -> None:
    view = View(store)
    view.see("whl/")
    yank(store, "first")
    for _ in range(2):
        assert view.read(records.YANKED).reason("v1") == "first"
    assert [method for method, _ in store.calls] == ["scan", "get"]
    yank(store, "second")
    assert view.read(records.YANKED).reason("v1") == "first"
    view.look([PAGE])
    assert view.read(records.YANKED).reason("v1") == "second"
    yank(store, "third")
    assert view.read(records.YANKED, fresh=True).reason("v1") == "third"


def test_an_overtaken_writer_looks_again_and_writes_what_is_true_now(store: Probe) -> None:
    view = View(store)
    view.see("whl/")
    assert rendered(view) == {PAGE: b"None 0"}
    yank(store, "bad")  # and whoever did that wrote the page
    store.inner.create(PAGE, Body.of(b"bad 1"))
    assert view.refresh([PAGE], lambda: rendered(view)) == ()
    assert store.get(PAGE).body == b"bad 1"


def test_an_update_over_what_was_read_is_one_request(store: Probe) -> None:
    view = View(store)
    view.update(records.YANKED, lambda old: old.saying("v1", "bad"))
    store.calls.clear()
    view.update(records.YANKED, lambda old: old.saying("v2", "bad"))
    assert [method for method, _ in store.calls] == ["replace"]
    yank(store, "worse")
    store.calls.clear()
    view.update(records.YANKED, lambda old: old.saying("v3", "bad"))
    assert [method for method, _ in store.calls] == ["replace", "get", "replace"]
    assert access.read(store, records.YANKED).reason("v1") == "worse"


def test_an_outdated_record_does_not_make_an_update_a_no_op(store: Probe) -> None:
    yank(store, "bad")
    view = View(store)
    view.read(records.YANKED)
    yank(store, "worse")
    view.update(records.YANKED, lambda old: old.saying("v1", "bad"))
    assert access.read(store, records.YANKED).reason("v1") == "bad"


def test_a_record_that_a_listing_does_not_show_is_created_without_asking(store: Probe) -> None:
    unit = "0" * 40
    status = records.CommitStatus(
        unit, 1, "2026-11-05T10:00:00Z", records.State.PENDING, "", "2026-11-05T10:00:00Z"
    )
    view = View(store)
    view.see(f"{unit}/")
    view.expect_missing(records.status(unit))
    assert view.update(records.status(unit), lambda old: old or status) == status
    assert [method for method, _ in store.calls] == ["scan", "create"]
    late = View(store)
    late._listed.append(f"{unit}/")  # as listed before that
    late.expect_missing(records.status(unit))
    assert late.update(records.status(unit), lambda old: old or status) == status
    assert [method for method, _ in store.calls[2:]] == ["create", "get"]
