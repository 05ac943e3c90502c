"""What a view caches, and when it reads again."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.index import manifest as manifests
from ci.index import records
from ci.index.records import Commits, Ledger, Nightly, Records, Yanked
from ci.publish import Conflict, access, plan
from ci.publish.view import View, unit_pages
from ci.store import Body, FolderStore, StoreUnavailable
from tests.ci.support.faults import FolderBreaker, Probe, Reader
from tests.ci.support.wheels import Factory

PAGE = "whl/index.json"
TIME = "2026-11-05T10:00:00Z"


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


def test_a_listing_replaces_what_was_seen_below_its_prefix_only(store: Probe) -> None:
    for key in ("whl/old", "whl/kept", "nightly/page"):
        store.inner.create(key, Body.of(b"x"))
    view = View(store)
    view.see("whl/", "nightly/")
    view.look(["index.html"])
    view.read(records.YANKED)
    store.inner.delete("whl/old")
    store.inner.create("whl/new", Body.of(b"y"))
    store.inner.delete("nightly/page")
    yank(store, "bad")
    view.see("whl/")
    assert view.below("whl/") == {"whl/kept", "whl/new"}
    assert view.below("nightly/") == {"nightly/page"}  # not listed again
    assert view.below("") == {"whl/kept", "whl/new", "nightly/page"}  # and not index.html
    assert view.read(records.YANKED).reason("v1") == "bad"
    known = ("whl/new", "whl/never", "nightly/never", "index.html")
    assert [view.knows(address) for address in (*known, "docs/page")] == [True] * 4 + [False]


def test_each_address_of_a_page_is_written_once(
    store: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page may have several addresses, as keys with `+` have on S3."""
    monkeypatch.setattr(store.inner, "aliases", lambda key: (f"{key}.twin",))
    both = (f"{PAGE}.twin", PAGE)
    view = View(store)
    assert view.refresh([PAGE], lambda: {PAGE: b"1"}) == both
    assert [method for method, _ in store.calls] == ["head", "head", "create", "create"]
    store.calls.clear()
    assert view.refresh([PAGE], lambda: {PAGE: b"1"}) == ()
    assert view.refresh([PAGE], lambda: {PAGE: b"2"}) == both
    assert [method for method, _ in store.calls] == ["replace", "replace"]
    store.calls.clear()
    store.inner.replace(PAGE, Body.of(b"3"), store.inner.head(PAGE).etag)  # somebody else's
    assert view.refresh([PAGE], lambda: {PAGE: b"4"}) == both
    assert [method for method, _ in store.calls] == ["replace", "replace", "head", "replace"]
    assert [store.inner.get(address).body for address in both] == [b"4", b"4"]


def test_writers_that_never_come_first_give_up(
    store: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "ATTEMPTS", 3)

    def overtaken(old: Yanked) -> Yanked:
        yank(store, f"bad {old.serial('v1')}")
        return old.saying("v2", "bad")

    def render() -> dict[str, bytes]:
        now = access.look(store.inner, PAGE)
        access.put(store.inner, PAGE, Body.of(now.etag.encode() if now else b""), now and now.etag)
        return {PAGE: b"mine"}

    with pytest.raises(
        StoreUnavailable, match=f"{records.YANKED.key} in .* changed under each of 3"
    ):
        View(store).update(records.YANKED, overtaken)
    with pytest.raises(StoreUnavailable, match=f"{PAGE} in .* changed under each of 3"):
        View(store).refresh([PAGE], render)


def test_a_write_once_file_is_known_once_it_is_created(store: Probe) -> None:
    view = View(store)
    assert view.ensure("a/file", Body.of(b"abc"))
    entry, there = view.entry("a/file"), store.inner.head("a/file")
    assert entry is not None
    assert (entry.key, entry.size, entry.etag) == ("a/file", 3, there.etag)
    assert access.holds(store, entry, Body.of(b"abc"))
    assert view.ensure("a/file", Body.of(b"abc")) is False
    with pytest.raises(Conflict):
        view.ensure("a/file", Body.of(b"abd"))
    again = View(store)
    assert again.ensure("a/file", Body.of(b"abc")) is False
    assert not again.knows("a/file")  # its metadata was not asked for


def test_what_is_stored_of_a_record_is_what_was_read_or_written(store: Probe) -> None:
    view = View(store)
    assert view.stored(records.YANKED) is None
    view.update(records.YANKED, lambda old: old.saying("v1", "bad"))
    body = Body.of(store.inner.get(records.YANKED.key).body)
    assert view.stored(records.YANKED) == (body.sha256, body.size)
    assert View(store).stored(records.YANKED) == (body.sha256, body.size)


@pytest.mark.parametrize("release", [False, True])
def test_only_a_commit_with_documentation_links_to_it(
    store: Probe, factory: Factory, release: bool
) -> None:
    commit = factory.commit(1)
    status = records.CommitStatus(
        commit.sha, 1, TIME, records.State.COMPLETE, "", TIME, docs=not release
    )
    wheels = factory.release(commit) if release else factory.wheels(commit)
    unit = plan.unit(wheels, commit, factory.matrix, TIME, release=release)
    manifest = manifests.of_matrix(unit, factory.matrix)
    view = View(store)
    page = f"{unit.prefix}index.html"
    assert b"docs/" not in unit_pages(view, manifest)[page]
    view.update(records.status(commit.sha), lambda old: status)
    assert (b"docs/" in unit_pages(view, manifest)[page]) is not release


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


def test_what_needs_no_change_is_read_again_and_not_written(store: Probe) -> None:
    yank(store, "bad")
    view = View(store)
    view.read(records.YANKED)
    view.update(records.YANKED, lambda old: old.saying("v1", "bad"))
    assert [method for method, _ in store.calls] == ["get", "get"]


def test_all_records_are_read_into_their_places(store: Probe) -> None:
    view = View(store)
    view.update(records.RELEASES, lambda old: Ledger(1))
    view.update(records.NIGHTLIES, lambda old: Ledger(2))
    view.update(records.NIGHTLY, lambda old: Nightly(Ledger(3)))
    view.update(records.COMMITS, lambda old: Commits(4))
    yanked = yank(store, "bad")
    assert View(store).read_all() == Records(
        Ledger(1), Ledger(2), Nightly(Ledger(3)), Commits(4), yanked
    )


def test_a_record_that_a_listing_does_not_show_is_created_without_asking(store: Probe) -> None:
    unit = "0" * 40
    status = records.CommitStatus(unit, 1, TIME, records.State.PENDING, "", TIME)
    view = View(store)
    view.expect_missing(records.YANKED)  # it is not known whether it is
    assert view.read(records.YANKED) == Yanked()
    assert store.calls.pop(0) == ("get", records.YANKED.key)
    view.see(f"{unit}/")
    view.expect_missing(records.status(unit))
    assert view.update(records.status(unit), lambda old: old or status) == status
    assert [method for method, _ in store.calls] == ["scan", "create"]
    late = View(store)
    late._listed.append(f"{unit}/")  # as listed before that
    late.expect_missing(records.status(unit))
    assert late.update(records.status(unit), lambda old: old or status) == status
    assert [method for method, _ in store.calls[2:]] == ["create", "get"]
    seen = View(store)
    seen.see(f"{unit}/")
    seen.expect_missing(records.status(unit))
    assert seen.read(records.status(unit)) == status
