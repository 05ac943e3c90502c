"""Yank, promote, pin, prune and status: what each changes, and what it does not."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ci.index.records import State
from ci.publish import begin, care, prune, publish, status
from ci.publish.care import NotPublished
from ci.publish.errors import PublishError
from ci.publish.reindex import reindex
from ci.store import Body, FolderStore, Store
from tests.ci.publish.conftest import Publish
from tests.ci.support.buckets import contents, linked, nightly_of
from tests.ci.support.wheels import Factory, clock

NEXT_YEAR = datetime(2027, 11, 5, tzinfo=timezone.utc)
MONTH = timedelta(days=30)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "bucket", durable=False)


def removed(store: Store, keep: int, now: datetime = NEXT_YEAR) -> set[str]:
    decisions = prune.plan(store, keep=keep, older_than=MONTH, now=now)
    return {decision.unit for decision in decisions if decision.removed}


def do_prune(store: Store, keep: int) -> None:
    decisions = prune.plan(store, keep=keep, older_than=MONTH, now=NEXT_YEAR)
    prune.prune(store, decisions, now=NEXT_YEAR, report=lambda step: None)


def test_a_yank_is_shown_by_every_page_that_lists_the_commit(
    store: Store, put: Publish, factory: Factory
) -> None:
    put(1)
    commit = put(2)
    before = contents(store)
    care.yank(store, commit.sha, 'wrong <b>"results"</b>')
    for key in (f"{commit.sha}/cu118/vllm", "whl/nightly/cu118/vllm"):
        page = store.get(f"{key}/index.html").body.decode()
        assert 'data-yanked="wrong &lt;b&gt;&#34;results&#34;&lt;/b&gt;"' in page
        assert (
            '"yanked":"wrong <b>\\"results\\"</b>"' in store.get(f"{key}/index.json").body.decode()
        )
    care.yank(store, commit.sha, None)
    after = contents(store)
    for key, body in before.items():
        if key.startswith(f"{commit.sha}/") and key.endswith((".whl", "manifest.json")):
            assert after[key] == body
    assert "data-yanked" not in after["whl/nightly/cu118/vllm/index.html"].decode()
    assert reindex(store, factory.matrix, lambda step: None).written == ()


def test_a_yanked_nightly_is_replaced_by_the_newest_good_commit(store: Store, put: Publish) -> None:
    commits = [put(number) for number in (1, 2, 3)]
    care.yank(store, commits[1].sha, "bad")
    assert care.yank(store, commits[2].sha, "worse").nightly == commits[0].sha
    name = "vllm-0.5.4-cp38-abi3-manylinux1_x86_64.whl"
    assert store.get(f"nightly/{name}") == store.get(f"{commits[0].sha}/{name}")
    assert care.yank(store, commits[2].sha, None).nightly == commits[0].sha
    assert put(4).sha == nightly_of(store)


def test_the_only_commit_stays_the_nightly_though_yanked(store: Store, put: Publish) -> None:
    commit = put(1)
    assert care.yank(store, commit.sha, "bad").nightly == commit.sha
    assert put(2).sha == nightly_of(store)


def test_a_yanked_commit_does_not_become_the_nightly_by_publishing_again(
    store: Store, put: Publish
) -> None:
    put(1)
    commit = put(2)
    care.yank(store, commit.sha, "bad")
    put(2)
    assert nightly_of(store) != commit.sha


def test_a_rollback_stays_until_something_newer_is_published(store: Store, put: Publish) -> None:
    old, newer = put(1), put(3)
    assert care.promote(store, old.sha).nightly == old.sha
    name = "vllm-0.5.4+cu118-cp38-abi3-manylinux1_x86_64.whl"
    assert store.get(f"nightly/{name}") == store.get(f"{old.sha}/{name}")
    assert all(old.sha in link for link in linked(store.get("nightly/cu118/vllm/index.html").body))
    put(2)  # late: it was never newer than what was the nightly once
    put(3)  # the same publication again
    assert nightly_of(store) == old.sha
    assert care.promote(store, newer.sha).nightly == newer.sha
    assert not care.promote(store, newer.sha).changed
    care.promote(store, old.sha)
    assert put(4).sha == nightly_of(store)


def test_what_is_not_complete_or_yanked_is_not_promoted(
    store: Store, put: Publish, factory: Factory
) -> None:
    put(1)
    bad = put(2)
    care.yank(store, bad.sha, "bad")
    with pytest.raises(PublishError, match="was yanked: bad"):
        care.promote(store, bad.sha)
    pending = factory.commit(3)
    begin(store, pending)
    with pytest.raises(NotPublished, match="its state is pending"):
        care.promote(store, pending.sha)
    with pytest.raises(NotPublished):
        care.yank(store, "0" * 40, "who?")


def test_pruning_keeps_what_it_must(store: Store, put: Publish, factory: Factory) -> None:
    commits = {number: put(number) for number in (1, 2, 3, 4, 5)}
    care.pin(store, commits[2].sha, "a paper used it")
    care.promote(store, commits[1].sha)
    assert removed(store, keep=1) == {commits[3].sha, commits[4].sha}
    assert removed(store, keep=1, now=datetime(2026, 11, 20, tzinfo=timezone.utc)) == set()
    assert removed(store, keep=9) == set()
    care.pin(store, commits[2].sha, None)
    assert commits[2].sha in removed(store, keep=1)


def test_pruning_never_takes_what_a_release_was_made_from(
    store: Store, put: Publish, factory: Factory
) -> None:
    commit = put(1)
    put(2)
    wheels = factory.release(commit)
    publish(store, wheels, commit, factory.matrix, release=True, clock=clock)
    assert removed(store, keep=0) == set()


def test_a_dry_run_changes_nothing_and_a_real_one_leaves_no_dead_link(
    store: Store, put: Publish, factory: Factory
) -> None:
    old, newer = put(1), put(2)
    before = contents(store)
    decisions = prune.plan(store, keep=1, older_than=MONTH, now=NEXT_YEAR)
    assert contents(store) == before
    (going,) = (decision for decision in decisions if decision.removed)
    assert (going.unit, going.objects) == (old.sha, sum(key.startswith(old.sha) for key in before))
    do_prune(store, keep=1)
    left = contents(store)
    assert [key for key in left if key.startswith(old.sha)] == [f"{old.sha}/status.json"]
    assert status.of_unit(store, old.sha, factory.matrix).state == State.PRUNED.value
    pages = [body for key, body in left.items() if key.startswith(("whl", "nightly"))]
    # A page may say what the commit before was, and links to no file of it.
    assert not any(f"{old.sha}/".encode() in body for body in pages)
    assert status.of_bucket(store, factory.matrix).problems == ()
    assert nightly_of(store) == newer.sha
    assert put(1).sha == old.sha  # what was pruned can be published again
    assert status.of_unit(store, old.sha, factory.matrix).problems == ()


def test_an_interrupted_pruning_is_finished_by_the_next(store: Store, put: Publish) -> None:
    old, _ = put(1), put(2)
    decisions = prune.plan(store, keep=1, older_than=MONTH, now=NEXT_YEAR)

    class Interrupted(Exception):
        pass

    class Stopping(FolderStore):
        left = 5

        def delete(self, key: str) -> None:
            if self.left == 0:
                raise Interrupted
            self.left -= 1
            super().delete(key)

    stopping = Stopping(Path(store.name), durable=False)
    with pytest.raises(Interrupted):
        prune.prune(stopping, decisions, now=NEXT_YEAR, report=lambda step: None)
    assert len([key for key in contents(store) if key.startswith(old.sha)]) > 1
    do_prune(store, keep=1)
    assert [key for key in contents(store) if key.startswith(old.sha)] == [f"{old.sha}/status.json"]
    assert removed(store, keep=1) == set()


def test_an_abandoned_upload_is_pruned_when_it_is_old(
    store: Store, put: Publish, factory: Factory
) -> None:
    put(1)
    abandoned = factory.commit(2)
    begin(store, abandoned, clock=clock)
    store.create(f"{abandoned.sha}/vllm-0.5.4-cp38-abi3-manylinux1_x86_64.whl", Body.of(b"half"))
    assert removed(store, keep=9, now=clock() + timedelta(days=1)) == set()
    assert removed(store, keep=9) == {abandoned.sha}
    do_prune(store, keep=9)
    left = [key for key in contents(store) if key.startswith(abandoned.sha)]
    assert left == [f"{abandoned.sha}/status.json"]


def test_status_reports_missing_and_changed_objects(
    store: Store, put: Publish, factory: Factory
) -> None:
    commit = put(1)
    assert status.of_unit(store, commit.sha, factory.matrix).problems == ()
    assert status.of_bucket(store, factory.matrix).problems == ()
    whole, plus = (
        f"{commit.sha}/vllm-0.5.4{local}-cp38-abi3-manylinux1_x86_64.whl"
        for local in ("", "+cu118")
    )
    store.delete(whole)
    store.replace(plus, Body.of(b"tampered"), store.head(plus).etag)
    page = f"{commit.sha}/cu118/vllm/index.html"
    store.replace(page, Body.of(b"spoiled"), store.head(page).etag)
    problems = status.of_unit(store, commit.sha, factory.matrix).problems
    assert f"{whole} is missing" in problems
    assert any(problem.startswith(f"{plus} has sha256") for problem in problems)
    assert f"{page} differs from the records: run reindex" in problems
    assert len(problems) == 3
    store.delete("nightly/vllm-0.5.4-cp38-abi3-manylinux1_x86_64.whl")
    assert status.of_bucket(store, factory.matrix).problems == (
        "nightly/vllm-0.5.4-cp38-abi3-manylinux1_x86_64.whl is missing",
    )
