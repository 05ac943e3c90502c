"""Every link of every page leads somewhere, from a bucket's first day on."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from ci.publish import begin, care, fail, prune, publish
from ci.serve import Application
from ci.store import FolderStore
from tests.ci.publish.conftest import Publish
from tests.ci.support.wheels import Factory


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "bucket", durable=False)


class Links(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


def dead_links(store: FolderStore) -> Iterator[str]:
    """Follows all links, from each page in the bucket and from a page that is missing."""
    client = TestClient(Application(store, None))
    pages = [entry.key for entry in store.list("") if entry.key.endswith(".html")]
    for page in (*pages, "nothing/here"):
        text = client.get(f"/{page}", headers={"Accept": "text/html"}).text
        for href in Links(text).found:
            target = posixpath.join("/", posixpath.dirname(page), href.partition("#")[0])
            if href.startswith("https:") or client.get(target).status_code == 200:
                continue
            yield f"{page}: {href}"


def test_links_work_in_every_state_of_a_bucket(
    store: FolderStore, put: Publish, factory: Factory
) -> None:
    assert list(dead_links(store)) == []  # nothing at all yet
    begin(store, factory.commit(1))
    assert list(dead_links(store)) == []  # only announced
    fail(store, factory.commit(1), "no compiler")
    assert list(dead_links(store)) == []
    release = factory.commit(0, "the release")
    publish(store, factory.release(release), release, factory.matrix, release=True)
    assert list(dead_links(store)) == []  # a release, and no nightly
    commits = [put(number) for number in (1, 2)]
    assert list(dead_links(store)) == []
    care.yank(store, commits[1].sha, "bad")
    assert list(dead_links(store)) == []
    later = datetime.now(timezone.utc) + timedelta(days=99)
    going = prune.plan(store, keep=0, older_than=timedelta(0), now=later)
    prune.prune(store, going, now=later, report=lambda step: None)
    assert list(dead_links(store)) == []
    assert b'href="nightly/index.html"' in store.get("index.html").body
