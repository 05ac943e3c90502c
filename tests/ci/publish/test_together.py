"""Publishers at the same time, as processes, with a reader over HTTP beside them."""

from __future__ import annotations

import multiprocessing
import posixpath
import re
import threading
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest

from ci.index import records
from ci.publish import access, publish
from ci.publish.reindex import reindex
from ci.serve import running
from ci.store import Store, open_store
from tests.ci.support.buckets import nightly_of
from tests.ci.support.wheels import Factory
from tests.waiting import PATIENCE

COMMITS = 4  # each published by two processes at once


def publish_all(bucket: str, factory: Factory, numbers: list[int]) -> None:
    """What each process does; a spawned one, for the server's threads do not survive a fork."""
    for number in numbers:
        commit = factory.commit(number)
        publish(open_store(bucket), factory.wheels(commit), commit, factory.matrix)


class Poller(threading.Thread):
    """Reads every index again and again, and follows each link that it sees."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.base = base
        self.bad: list[str] = []
        self.pages = self.files = 0
        self.done = threading.Event()

    def run(self) -> None:
        known: dict[str, str] = {}
        with httpx.Client(base_url=self.base, timeout=PATIENCE) as client:
            while not self.done.is_set():
                for folder in ("whl/nightly/cu118", "whl/nightly/cu121", "nightly/cu121"):
                    self.read(client, f"{folder}/vllm/", known)

    def read(self, client: httpx.Client, folder: str, known: dict[str, str]) -> None:
        page = client.get(f"/{folder}")
        if page.status_code == 404:  # nothing published yet
            return
        self.pages += 1
        for href, digest in re.findall(r'href="([^"#]+)#sha256=([0-9a-f]+)"', page.text):
            key = posixpath.normpath(posixpath.join(folder, unquote(href)))
            if key not in known:
                answer = client.get("/" + posixpath.normpath(posixpath.join(folder, href)))
                found = sha256(answer.content).hexdigest() if answer.is_success else "missing"
                known[key] = found
                self.files += 1
            if known[key] != digest:
                self.bad.append(f"{key}: {known[key]}, not {digest}")


def test_publishers_at_once_lose_nothing_and_no_reader_sees_a_bad_link(
    store: Store, factory: Factory
) -> None:
    orders = [[1, 2, 3, 4], [4, 2, 3, 1]]
    for number in range(1, COMMITS + 1):  # made once, for both write into the same folder
        factory.wheels(factory.commit(number))
    spawn = multiprocessing.get_context("spawn")
    with running(store) as base:
        poller = Poller(base)
        poller.start()
        processes = [
            spawn.Process(target=publish_all, args=(store.name, factory, order)) for order in orders
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        poller.done.set()
        poller.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert poller.bad == []
    assert poller.pages
    listed = access.read(store, records.NIGHTLIES).units
    assert [unit.number for unit in listed] == [4, 3, 2, 1]
    assert nightly_of(store) == factory.commit(4).sha
    newest = next(w for w in factory.wheels(factory.commit(4)) if w.version == "0.5.4")
    assert store.head(f"nightly/{newest.path.name}").sha256 == newest.sha256
    assert reindex(store, factory.matrix, lambda step: None).written == ()


@pytest.mark.parametrize("kill_after", [0.02, 0.05, 0.1])
def test_a_publisher_that_is_killed_leaves_a_bucket_that_the_next_one_finishes(
    tmp_path: Path, factory: Factory, kill_after: float
) -> None:
    bucket = str(tmp_path / "bucket")
    factory.wheels(factory.commit(1))
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=publish_all, args=(bucket, factory, [1]))
    process.start()
    while process.is_alive() and not Path(bucket).exists():
        process.join(0.001)
    process.join(kill_after)
    process.kill()
    process.join()
    publish_all(bucket, factory, [1])
    store = open_store(bucket)
    assert nightly_of(store) == factory.commit(1).sha
    assert reindex(store, factory.matrix, lambda step: None).written == ()
