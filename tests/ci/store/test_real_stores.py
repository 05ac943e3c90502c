"""Real self-hosted stores: which are refused, and publishing to the others.

`make stores` installs them and runs this file. Without them its tests say so and are skipped.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ci.publish import publish, status
from ci.publish.reindex import reindex
from ci.store import Body, Changed, Untrusted
from ci.store.s3 import S3Store, make_client
from tests.ci.support.buckets import nightly_of
from tests.ci.support.radosgw import ACCESS, SECRET, missing, radosgw
from tests.ci.support.wheels import Factory
from tests.ports import free_port

S3RVER = shutil.which("s3rver")


def bucket_at(url: str, access: str, secret: str, patch: pytest.MonkeyPatch) -> S3Store:
    patch.setenv("AWS_ENDPOINT_URL", url)
    patch.setenv("AWS_ACCESS_KEY_ID", access)
    patch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = make_client()
    client.create_bucket(Bucket="wheels")
    return S3Store("wheels", client)


@pytest.fixture(scope="module")
def radosgw_url() -> Iterator[str]:
    if absent := missing():
        pytest.skip(f"Ceph is not installed: no {', '.join(absent)}")
    with radosgw() as url:
        yield url


def test_radosgw_publishes_and_what_is_right_stays_untouched(
    radosgw_url: str, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = bucket_at(radosgw_url, ACCESS, SECRET, monkeypatch)
    for number in (1, 2):
        commit = factory.commit(number)
        assert publish(store, factory.wheels(commit), commit, factory.matrix).is_nightly
    assert nightly_of(store) == factory.commit(2).sha
    again = publish(store, factory.wheels(commit), commit, factory.matrix)
    assert (again.created, again.pages) == ((), ())
    assert reindex(store, factory.matrix, lambda step: None).written == ()
    assert status.of_bucket(store, factory.matrix).problems == ()
    assert status.of_unit(store, commit.sha, factory.matrix).problems == ()
    etag = store.head("index.html").etag
    with pytest.raises(Changed):
        store.replace("index.html", Body.of(b"x"), '"0123"')
    assert store.head("index.html").etag == etag


@pytest.fixture
def s3rver(tmp_path: Path) -> Iterator[str]:
    if S3RVER is None:
        pytest.skip("npm's s3rver is not installed")
    port = free_port()
    command = [S3RVER, "-d", str(tmp_path), "-a", "127.0.0.1", "-p", str(port), "--silent"]
    with subprocess.Popen(command) as process:
        try:
            while process.poll() is None:
                with socket.socket() as caller:
                    if caller.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def test_s3rver_is_refused_by_what_it_ignores(
    s3rver: str, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = bucket_at(s3rver, "S3RVER", "S3RVER", monkeypatch)
    commit = factory.commit(1)
    with pytest.raises(Untrusted, match="ignores If-None-Match"):
        publish(store, factory.wheels(commit), commit, factory.matrix)
    assert list(store.list("")) == []
