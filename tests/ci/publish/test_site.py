"""The documentation beside a commit's wheels: written once, linked when it is whole, served."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from ci.publish import Conflict, PublishError, publish, status
from ci.publish.care import NotPublished, yank
from ci.publish.prune import plan, prune
from ci.publish.reindex import reindex
from ci.publish.site import publish_site
from ci.serve import running
from ci.store import NotFound, Store
from tests.ci.conftest import client_of
from tests.ci.publish.conftest import Publish
from tests.ci.support.buckets import contents
from tests.ci.support.labs import S3Lab
from tests.ci.support.s3 import Endpoint
from tests.ci.support.wheels import CLOCK, Factory, clock

FILES = {
    "index.html": "<a href='serving.html'>",
    "serving.html": "<img src='_images/a.png'>",
    "_images/a.png": "an image",
    "_static/style.css": "p {}",
    ".buildinfo": "the generator's own",
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "site" / name).write_text(text)
    return tmp_path / "site"


def quiet(step: str) -> None:
    """A report that nobody reads."""


def test_it_lies_beside_the_commit_and_is_found_from_the_page(
    store: Store, put: Publish, factory: Factory, site: Path
) -> None:
    with pytest.raises(NotPublished):
        publish_site(store, factory.commit(1).sha, site, quiet)
    with_docs, without = put(1), put(2)
    assert b"/docs/" not in store.get("index.html").body
    result = publish_site(store, with_docs.sha, site, quiet)
    assert (result.files, result.created) == (4, 4)
    for name, text in FILES.items():
        if not name.startswith("."):
            assert store.get(f"{with_docs.sha}/docs/{name}").body.decode() == text
    page = store.get("index.html").body.decode()
    assert page.count(f'href="{with_docs.sha}/docs/index.html"') == 2  # above, and in its row
    assert f"{without.sha}/docs/" not in page
    assert store.get(f"{with_docs.sha}/index.html").body.count(b'href="docs/index.html"') == 1
    for folder in (without.sha, "nightly"):  # of which it is not
        assert b"docs/index.html" not in store.get(f"{folder}/index.html").body
    assert status.of_unit(store, with_docs.sha, factory.matrix).problems == ()
    assert reindex(store, factory.matrix, quiet).written == ()

    before = contents(store)
    assert publish_site(store, with_docs.sha, site, quiet).created == 0
    publish(store, factory.wheels(with_docs), with_docs, factory.matrix, clock=clock)
    assert contents(store) == before


def test_the_nightly_s_page_links_to_it_too(
    store: Store, put: Publish, factory: Factory, site: Path
) -> None:
    old, newest = put(1), put(2)
    publish_site(store, newest.sha, site, quiet)
    publish_site(store, old.sha, site, quiet)
    link = f'href="../{newest.sha}/docs/index.html"'.encode()
    assert link in store.get("nightly/index.html").body
    assert status.of_bucket(store, factory.matrix).problems == ()
    yank(store, newest.sha, "slow")
    assert f"../{old.sha}/docs/".encode() in store.get("nightly/index.html").body
    assert b"docs/index.html" in store.get(f"{newest.sha}/index.html").body
    assert reindex(store, factory.matrix, quiet).written == ()


def test_another_site_for_the_same_commit_is_refused(
    store: Store, put: Publish, site: Path
) -> None:
    commit = put(1)
    publish_site(store, commit.sha, site, quiet)
    (site / "serving.html").write_text("other words")
    before = contents(store)
    with pytest.raises(Conflict, match=r"docs/serving\.html exists"):
        publish_site(store, commit.sha, site, quiet)
    assert contents(store) == before


def test_half_a_site_is_not_linked_and_the_same_again_completes_it(
    store: Store, put: Publish, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = put(1)

    def fails(step: str) -> None:
        if step.startswith("link"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish_site(store, commit.sha, site, fails)
    assert b"/docs/" not in store.get("index.html").body
    assert publish_site(store, commit.sha, site, quiet).created == 0
    assert b"/docs/" in store.get("index.html").body
    with pytest.raises(PublishError, match=r"has no index\.html"):
        publish_site(store, commit.sha, site / "_static", quiet)


def test_it_is_served_with_types_that_browsers_take(store: Store, put: Publish, site: Path) -> None:
    commit = put(1)
    publish_site(store, commit.sha, site, quiet)
    types = {
        "": "text/html; charset=utf-8",
        "serving.html": "text/html; charset=utf-8",
        "_images/a.png": "image/png",
        "_static/style.css": "text/css; charset=utf-8",
    }
    with running(store) as base:
        for name, kind in types.items():
            answer = httpx.get(f"{base}/{commit.sha}/docs/{name}")
            assert (answer.status_code, answer.headers["Content-Type"]) == (200, kind)
            assert "immutable" in answer.headers["Cache-Control"]


def test_prune_removes_it_with_its_commit(store: Store, put: Publish, site: Path) -> None:
    old, _ = put(1), put(2)
    publish_site(store, old.sha, site, quiet)
    later = CLOCK + timedelta(days=9)
    decisions = plan(store, keep=1, older_than=timedelta(days=1), now=later)
    prune(store, decisions, now=later, report=quiet)
    with pytest.raises(NotFound):
        store.head(f"{old.sha}/docs/index.html")
    assert b"/docs/" not in store.get("index.html").body


def test_it_costs_a_request_for_each_file_and_a_few_for_the_links(
    s3_endpoint: Endpoint, factory: Factory, site: Path
) -> None:
    lab = S3Lab(s3_endpoint, client_of(s3_endpoint.url))
    bucket = lab.copy(None)
    commit = factory.commit(1)
    publish(bucket, factory.wheels(commit), commit, factory.matrix, clock=clock)
    s3_endpoint.requests.clear()
    publish_site(bucket, commit.sha, site, quiet)
    methods = Counter(method for method, _ in s3_endpoint.requests)
    # S3 has first pages at the address of their folder, too. Then status, listing and home page,
    # the commit's page and the nightly's.
    assert methods["PUT"] == len(FILES) - 1 + 1 + 3 + 2 * 2
    assert sum(methods.values()) - methods["PUT"] == 13
    lab.drop(bucket)
