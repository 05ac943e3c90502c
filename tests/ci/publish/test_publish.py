"""Where a publication puts its files, and when nightly/ moves; on both kinds of bucket."""

from __future__ import annotations

import re

import pytest

from ci.publish import IncompleteSet, PublishError, publish
from ci.publish.reindex import reindex
from ci.store import Body, NotFound, Store
from tests.ci.publish.conftest import Publish
from tests.ci.support.buckets import contents, linked, nightly_of
from tests.ci.support.wheels import Factory, clock


def test_a_commit_is_where_the_documented_urls_say(
    store: Store, put: Publish, factory: Factory
) -> None:
    commit = put(7)
    x86, arm = "manylinux1_x86_64", "manylinux2014_aarch64"
    platforms = {"cu118": [x86], "cu121": [x86, arm]}
    for local, variant, platform in (
        (None, "cu121", x86),
        (None, "cu121", arm),
        ("cu118", "cu118", x86),
    ):
        name = f"vllm-0.5.4{'+' + local if local else ''}-cp38-abi3-{platform}.whl"
        wheel = next(w for w in factory.wheels(commit) if w.path.name == name)
        for folder in (commit.sha, "nightly"):
            assert store.get(f"{folder}/{name}").body == wheel.path.read_bytes()
        assert store.get(f"{commit.sha}/{name}.metadata").body == wheel.metadata
        with pytest.raises(NotFound):
            store.get(f"nightly/{name}.metadata")
        page = store.get(f"whl/nightly/{variant}/vllm/index.html").body
        assert [link.rpartition("/")[2] for link in linked(page)] == [
            f"vllm-0.5.5.dev7%2Bg{commit.sha[:9]}{'.' + local if local else ''}"
            f"-cp38-abi3-{each}.whl"
            for each in platforms[variant]
        ]


def test_every_index_holds_one_variant_only(store: Store, put: Publish) -> None:
    commits = [put(number) for number in (1, 2)]
    for folder in ("whl/nightly", "nightly", *(commit.sha for commit in commits)):
        for variant in ("cu118", "cu121"):
            links = linked(store.get(f"{folder}/{variant}/vllm/index.html").body)
            assert links
            assert {"cu118" in link for link in links} == {variant == "cu118"}


def test_the_same_publication_again_changes_nothing(
    store: Store, put: Publish, factory: Factory
) -> None:
    commit = put(1)
    before = contents(store)
    result = publish(store, factory.wheels(commit), commit, factory.matrix)  # by another clock
    assert (result.created, result.pages) == ((), ())
    assert contents(store) == before


def test_an_older_commit_that_finishes_late_leaves_nightly_alone(
    store: Store, put: Publish
) -> None:
    newer = put(5)
    wheel = "nightly/vllm-0.5.4-cp38-abi3-manylinux1_x86_64.whl"
    before = store.get(wheel)
    older = put(4)
    assert nightly_of(store) == newer.sha
    assert store.get(wheel) == before
    links = linked(store.get("whl/nightly/cu121/vllm/index.html").body)
    assert [re.search(r"\.dev(\d+)", link)[1] for link in links] == ["5", "5", "4", "4"]
    assert f"{older.sha}/" in links[-1]


def test_pages_are_functions_of_the_records(store: Store, put: Publish, factory: Factory) -> None:
    """Every page removed or spoiled is written again, to the same bytes."""
    put(1)
    put(2)
    before = contents(store)
    pages = [key for key in before if re.search(r"index\.(html|json)$", key)]
    for number, key in enumerate(pages):
        for address in (*store.aliases(key), key):
            if number % 2:
                store.delete(address)
            else:
                etag = store.head(address).etag
                store.replace(address, Body.of(b"spoiled"), etag)
    result = reindex(store, factory.matrix, lambda step: None)
    assert contents(store) == before
    assert len(result.written) >= len(pages)
    assert reindex(store, factory.matrix, lambda step: None).written == ()


def test_a_release_has_its_own_place_and_index(
    store: Store, put: Publish, factory: Factory, tmp_path_factory: pytest.TempPathFactory
) -> None:
    nightly = put(1)
    commit = factory.commit(0, "the release")
    sums = tmp_path_factory.mktemp("beside") / "SHA256SUMS"
    sums.write_text("…\n")
    sdist = sums.with_name("vllm-0.5.4.tar.gz")
    sdist.write_bytes(b"a source archive")
    wheels = factory.release(commit)
    beside = {"sdist": sdist, "attachments": [sums]}
    result = publish(store, wheels, commit, factory.matrix, release=True, **beside, clock=clock)
    assert result.unit.name == "v0.5.4"
    name = "vllm-0.5.4+cu118-cp310-cp310-manylinux1_x86_64.whl"
    assert store.head(f"releases/download/v0.5.4/{name}")
    assert store.get("releases/download/v0.5.4/SHA256SUMS").body == sums.read_bytes()
    for variant, count in (("cu118", 6), ("cu121", 8)):
        links = linked(store.get(f"whl/{variant}/vllm/index.html").body)
        assert len(links) == count
        assert all(link.startswith("../../../releases/download/v0.5.4/") for link in links)
    assert nightly_of(store) == nightly.sha
    assert links[-1].endswith("/vllm-0.5.4.tar.gz")
    again = publish(store, wheels, commit, factory.matrix, release=True, **beside)
    assert (again.created, again.pages) == ((), ())
    with pytest.raises(IncompleteSet, match="cp312"):
        publish(store, wheels[:5] + wheels[6:], commit, factory.matrix, release=True)
    with pytest.raises(PublishError, match="is not the sdist of version"):
        publish(store, wheels, commit, factory.matrix, release=True, sdist=sums)
