"""Variants that a commit has only on request (`on_request` in ci/matrix.toml)."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from ci import names
from ci.git import Commit
from ci.index import manifest as manifests
from ci.index import records
from ci.matrix import Matrix
from ci.publish import Conflict, IncompleteSet, access, check_variants, publish, why
from ci.publish.reindex import reindex
from ci.publish.status import of_bucket, of_unit
from ci.serve import Application
from ci.store import FolderStore, NotFound
from tests.ci.publish.conftest import Publish
from tests.ci.support.buckets import contents, linked
from tests.ci.support.wheels import Factory, clock

CU128 = "vllm-0.5.4+cu128-cp38-abi3-manylinux1_x86_64.whl"


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "bucket", durable=False)


@pytest.fixture
def asked(factory: Factory, the_matrix: Matrix) -> Factory:
    """Makes the wheels of `nightly --also cu128`."""
    return dataclasses.replace(factory, matrix=the_matrix.of_commit(["cu128"]))


def put_with_cu128(store: FolderStore, asked: Factory, number: int) -> Commit:
    commit = asked.commit(number)
    publish(store, asked.wheels(commit), commit, asked.matrix, clock=clock)
    return commit


def test_a_commit_is_complete_without_and_lists_what_it_has_with(
    store: FolderStore, put: Publish, asked: Factory
) -> None:
    plain, more = put(1), put_with_cu128(store, asked, 2)
    has = {
        commit.sha: json.loads(store.get(f"{commit.sha}/manifest.json").body)["variants"]
        for commit in (plain, more)
    }
    assert set(has[plain.sha]) == {"cu118", "cu121"}
    assert set(has[more.sha]) == {"cu118", "cu121", "cu128"}
    assert [name for name, each in has[more.sha].items() if each["on_request"]] == ["cu128"]
    for platform in ("manylinux1_x86_64", "manylinux2014_aarch64"):
        assert store.head(f"{more.sha}/vllm-0.5.4+cu128-cp38-abi3-{platform}.whl")
    assert len(why.of(store, more.sha).wheels) == len(why.of(store, plain.sha).wheels) + 4
    for commit in (plain, more):
        assert of_unit(store, commit.sha, asked.matrix).problems == ()
    assert of_bucket(store, asked.matrix).problems == ()


def test_its_index_holds_the_commits_that_have_it_and_nightly_none_that_is_old(
    store: FolderStore, put: Publish, asked: Factory
) -> None:
    first, second = put_with_cu128(store, asked, 1), put_with_cu128(store, asked, 2)
    assert len(linked(store.get("nightly/cu128/vllm/index.html").body)) == 4
    last = put(3)
    listed = linked(store.get("whl/nightly/cu128/vllm/index.html").body)
    assert {link.split("/")[-2] for link in listed} == {first.sha, second.sha}
    assert linked(store.get("nightly/cu128/vllm/index.html").body) == []
    assert last.sha.encode() in store.get("nightly/cu121/vllm/index.html").body
    copies = {key for key in contents(store) if re.fullmatch("nightly/[^/]*[.](whl|svg)", key)}
    assert not [key for key in copies if "cu128" in key]
    assert "nightly/vllm-0.5.4+cu118-cp38-abi3-manylinux1_x86_64.whl" in copies


def test_the_page_gives_the_address_at_which_it_is(store: FolderStore, asked: Factory) -> None:
    commit = put_with_cu128(store, asked, 1)
    page = store.get("index.html").body.decode()
    found = re.search(r'id="choices">(.*?)</script>', page)
    assert found is not None
    choices = json.loads(found[1])
    nightly = choices["channels"]["nightly"]
    assert nightly["cu128"]["any"] == f"{commit.sha}/{CU128}"
    assert nightly["cu128"]["any aarch64"].startswith(f"{commit.sha}/")
    assert nightly["cu118"]["any"].startswith("nightly/")
    assert choices["torch"]["cu128"] == "https://download.pytorch.org/whl/cu128"


def test_a_commit_without_it_says_what_it_has_and_which_commit_has_it(
    store: FolderStore, put: Publish, asked: Factory
) -> None:
    more, plain = put_with_cu128(store, asked, 1), put(2)
    client = TestClient(Application(store, None))
    where = f"cu128 is only built on request: the newest with it is {more.sha}."
    for key in (names.commit_key(plain.sha, CU128), f"{plain.sha}/cu128/vllm/"):
        answer = client.get(f"/{key}")
        assert answer.status_code == 404
        assert f"Commit {plain.sha} is complete" in answer.text
        assert where in answer.text
    answer = client.get(f"/nightly/{CU128}")
    assert (answer.status_code, where in answer.text) == (404, True)
    assert "on request" not in client.get(f"/{plain.sha}/nothing").text
    # One that nobody ever asked for.
    answer = client.get(f"/{plain.sha}/{CU128.replace('128', '130')}")
    assert "on request" not in answer.text
    assert "But it has no file of this name" in answer.text


def test_reindex_writes_the_same_again(store: FolderStore, put: Publish, asked: Factory) -> None:
    put_with_cu128(store, asked, 1)
    put(2)
    before = contents(store)
    assert reindex(store, asked.matrix, lambda step: None).written == ()
    assert contents(store) == before


def test_a_set_with_a_wheel_of_it_missing_is_refused(
    store: FolderStore, asked: Factory, factory: Factory
) -> None:
    commit = asked.commit(1)
    with pytest.raises(IncompleteSet, match=r"missing: .*\+cu128") as caught:
        publish(store, factory.wheels(commit), commit, asked.matrix)
    assert "build --variant NAME" in str(caught.value)
    with pytest.raises(IncompleteSet, match=r"not of this set: .*\+cu128"):
        publish(store, asked.wheels(commit), commit, factory.matrix)


def test_what_a_commit_has_is_said_once_and_known_before_a_build(
    store: FolderStore, put: Publish, asked: Factory, factory: Factory
) -> None:
    plain, more = put(1), put_with_cu128(store, asked, 2)
    check_variants(store, plain, factory.matrix)
    check_variants(store, more, asked.matrix)
    check_variants(store, factory.commit(3), asked.matrix)  # nobody published it
    with pytest.raises(Conflict, match=r"published with cu118, cu121, not .*cu128") as caught:
        check_variants(store, plain, asked.matrix)
    assert "(without --also)" in str(caught.value)
    with pytest.raises(Conflict, match=r"published with cu118, cu121, cu128, not") as caught:
        check_variants(store, more, factory.matrix)
    assert "(--also cu128)" in str(caught.value)


def test_manifests_and_ledgers_of_before_are_read(
    store: FolderStore, put: Publish, asked: Factory
) -> None:
    """They say nothing of requests: each commit had every variant."""
    commit = put(1)
    text = store.get(f"{commit.sha}/manifest.json").body.decode()
    old = re.sub(r',\s*"on_request": false|"on_request": false,\s*', "", text)
    assert old != text
    assert manifests.parse(old.encode(), "old") == manifests.parse(text.encode(), "new")
    ledger = store.get("state/nightlies.json").body.decode()
    old = re.sub(r',\s*"on_request": ?false', "", ledger)
    assert old != ledger
    assert records.NIGHTLIES.parse(old.encode(), "old") == access.read(store, records.NIGHTLIES)


def test_a_release_has_every_variant(
    store: FolderStore, factory: Factory, the_matrix: Matrix
) -> None:
    whole = dataclasses.replace(factory, matrix=the_matrix)
    commit = factory.commit(0)
    with pytest.raises(IncompleteSet, match=r"\+cu130"):
        publish(store, factory.release(commit), commit, the_matrix, release=True)
    publish(store, whole.release(commit), commit, the_matrix, release=True)
    assert len(linked(store.get("whl/cu130/vllm/index.html").body)) == 7
    with pytest.raises(NotFound):
        store.get("whl/nightly/cu130/vllm/index.html")
