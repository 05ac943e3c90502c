"""The contract of every bucket: one suite for a folder and S3 over HTTP."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from datetime import timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from ci.serve import Application
from ci.store import (
    AlreadyExists,
    BadDigest,
    BadKey,
    Body,
    Changed,
    FolderStore,
    NotFound,
    Store,
)
from ci.store.base import CHUNK
from ci.store.s3 import S3Store
from tests.ci.support.s3 import Endpoint

A = Body.of(b"a")
B = Body.of(b"b")


def put(store: Store, key: str, body: Body) -> None:
    for address in (*store.aliases(key), key):
        store.create(address, body)


def test_what_was_created_is_there(store: Store) -> None:
    etag = store.create("state/x.json", A)
    assert store.get("state/x.json").body == b"a"
    assert store.get("state/x.json").etag == etag
    entry = store.head("state/x.json")
    assert (entry.key, entry.size, entry.etag) == ("state/x.json", 1, etag)
    assert entry.sha256 == hashlib.sha256(b"a").hexdigest()
    assert b"".join(store.read(entry)) == b"a"


def test_any_store_can_be_served(store: Store) -> None:
    """Not S3 alone by itself: `ci serve --bucket s3://name` stands in front of a private one."""
    put(store, "a+b.txt", A)
    answer = TestClient(Application(store, None)).get("/a+b.txt")
    assert (answer.status_code, answer.content) == (200, b"a")
    assert parsedate_to_datetime(answer.headers["last-modified"]).tzinfo == timezone.utc
    assert store.head("a+b.txt").modified.tzinfo is timezone.utc


def test_nothing_is_created_over_something(store: Store) -> None:
    store.create("x", A)
    with pytest.raises(AlreadyExists):
        store.create("x", B)
    assert store.get("x").body == b"a"


def test_only_the_version_that_was_seen_is_replaced(store: Store) -> None:
    first = store.create("x", A)
    second = store.replace("x", B, first)
    assert first != second
    with pytest.raises(Changed):
        store.replace("x", A, first)
    assert store.get("x").body == b"b"
    assert store.get("x").etag == second


def test_what_is_gone_cannot_be_replaced(store: Store) -> None:
    etag = store.create("x", A)
    store.delete("x")
    with pytest.raises(Changed):
        store.replace("x", B, etag)
    with pytest.raises(NotFound):
        store.get("x")


def test_only_a_missing_key_raises_not_found(store: Store) -> None:
    store.create("there/x", A)
    entry = store.head("there/x")
    store.delete("there/x")
    for missing in (store.get, store.head):
        with pytest.raises(NotFound):
            missing("there/x")
        with pytest.raises(NotFound):
            missing("there")
    with pytest.raises(NotFound):
        store.read(entry)
    with pytest.raises(NotFound):
        store.copy("there/x", "y", None)


def test_a_part_is_read_of_the_version_that_was_seen(store: Store) -> None:
    etag = store.create("x", Body.of(b"0123456789"))
    entry = store.head("x")
    assert b"".join(store.read(entry, 2, 5)) == b"234"
    assert b"".join(store.read(entry, 8)) == b"89"
    assert b"".join(store.read(entry, 5, 5)) == b""
    store.replace("x", Body.of(b"abcdefghij"), etag)
    with pytest.raises(Changed):
        store.read(entry, 2, 5)


def test_an_empty_object_is_an_object(store: Store) -> None:
    store.create("x", Body.of(b""))
    entry = store.head("x")
    assert entry.size == 0
    assert b"".join(store.read(entry)) == b""


def test_a_copy_is_made_only_over_what_was_seen(store: Store) -> None:
    store.create("a", A)
    store.create("b", B)
    store.copy("a", "nightly/c", None)
    with pytest.raises(Changed):
        store.copy("b", "nightly/c", None)
    seen = store.head("nightly/c")
    assert seen.sha256 == A.sha256
    store.copy("b", "nightly/c", seen.etag)
    with pytest.raises(Changed):
        store.copy("a", "nightly/c", seen.etag)
    assert store.get("nightly/c").body == b"b"
    assert store.get("a").body == b"a"


def test_a_listing_pages_is_ordered_and_shows_each_object_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")  # so that 7 keys are three pages
    keys = ["b/1", "b/2+x", "b/index.html", "b/d/3", "ba", "c", "d/x"]
    for key in keys:
        put(store, key, A)
    assert [entry.key for entry in store.list("")] == sorted(keys)
    assert [entry.key for entry in store.list("b/")] == ["b/1", "b/2+x", "b/d/3", "b/index.html"]
    assert [entry.key for entry in store.list("b")] == [*sorted(keys[:4]), "ba"]
    assert [entry.size for entry in store.list("c")] == [1]
    assert list(store.list("nothing/")) == []
    assert list(store.folders()) == ["b", "d"]


def test_what_others_put_there_under_invalid_keys_is_left_out(store: Store) -> None:
    put(store, "whl/x+y", A)
    foreign = ["whl/.DS_Store", "whl/~lock", "whl/é", "whl/.nfs/0001"]
    if isinstance(store, S3Store):
        for key in (*foreign, "whl//x", "whl/../x", "whl/<script>"):
            store._client.put_object(Bucket=store.bucket, Key=key, Body=b"")
    else:
        for key in foreign:
            path = Path(store.name) / key
            path.parent.mkdir(exist_ok=True)
            path.touch()
    assert [entry.key for entry in store.list("whl/")] == ["whl/x+y"]
    scanned = [entry.key for entry in store.scan("whl/")]
    assert scanned == sorted(["whl/x+y", *store.aliases("whl/x+y")])


def test_a_new_bucket_is_empty(store: Store) -> None:
    assert list(store.list("")) == []
    assert list(store.folders()) == []


def test_deleting_is_repeatable_and_leaves_the_neighbours(store: Store) -> None:
    store.create("a/b/x", A)
    store.create("a/y", B)
    for _ in range(2):
        store.delete("a/b/x")
    assert [entry.key for entry in store.list("")] == ["a/y"]
    store.create("a/b/x", B)
    assert store.get("a/b/x").body == b"b"


def test_a_file_is_streamed_whole(store: Store, tmp_path: Path) -> None:
    data = bytes(range(256)) * (CHUNK // 128)  # two chunks
    path = tmp_path / "big"
    path.write_bytes(data)
    store.create("big", Body.file(path))
    entry = store.head("big")
    assert entry.sha256 == hashlib.sha256(data).hexdigest()
    assert b"".join(store.read(entry)) == data
    assert b"".join(store.read(entry, CHUNK - 1, CHUNK + 1)) == data[CHUNK - 1 : CHUNK + 1]


def test_an_upload_with_a_wrong_checksum_is_refused(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "wheel"
    path.write_bytes(b"as it was")
    body = Body.file(path)
    path.write_bytes(b"as it is!")
    etag = store.create("other", A)
    with pytest.raises(BadDigest):
        store.create("x", body)
    with pytest.raises(BadDigest):
        store.replace("other", body, etag)
    assert [entry.key for entry in store.list("")] == ["other"]
    assert store.get("other").body == b"a"


HOSTILE = [
    "",
    "/etc/passwd",
    "../x",
    "a/../../x",
    "a/./b",
    "a//b",
    ".hidden",
    "a/.work/lock",
    "a\\b",
    "a%2fb",
    "a\0b",
    "a\nb",
    "ａ",  # a full-width letter
    "a‮b",  # turns the rest of a line around
    "<script>",
    "x" * 256,
    "/".join(["x" * 200] * 5),
]


@pytest.mark.parametrize("key", HOSTILE)
def test_a_hostile_key_is_refused_before_the_bucket_is_asked(store: Store, key: str) -> None:
    store.create("good", A)
    entry = store.head("good")
    attempts: list[Callable[[], object]] = [
        lambda: store.get(key),
        lambda: store.head(key),
        lambda: store.create(key, A),
        lambda: store.replace(key, A, entry.etag),
        lambda: store.copy("good", key, None),
        lambda: store.copy(key, "other", None),
        lambda: store.delete(key),
    ]
    for attempt in attempts:
        with pytest.raises(BadKey):
            attempt()
    assert [entry.key for entry in store.list("")] == ["good"]


def test_one_of_many_creators_wins(store: Store) -> None:
    won: list[int] = []

    def create(number: int) -> None:
        try:
            store.create("x", Body.of(str(number).encode()))
        except AlreadyExists:
            return
        won.append(number)

    in_threads([lambda n=n: create(n) for n in range(8)])
    assert len(won) == 1
    assert store.get("x").body == str(won[0]).encode()


def test_no_concurrent_change_is_lost(store: Store) -> None:
    store.create("x", Body.of(b"[]"))

    def add(number: int) -> None:
        while True:
            found = store.get("x")
            numbers = [*eval(found.body), number]
            try:
                store.replace("x", Body.of(repr(numbers).encode()), found.etag)
            except Changed:
                continue
            return

    in_threads([lambda n=n: add(n) for n in range(8)])
    assert sorted(eval(store.get("x").body)) == list(range(8))


def in_threads(jobs: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class PlusIsSpace:
    """Decodes a raw `+` in a path as S3's REST endpoint does, before the application sees it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope["raw_path"].replace(b"+", b"%20")
        await self._app({**scope, "raw_path": raw}, receive, send)


@pytest.fixture
def http(store: Store, request: pytest.FixtureRequest) -> Callable[[str], httpx.Response]:
    """Asks for a path of the bucket, raw, where a `+` is decoded as S3 does."""
    if isinstance(store, FolderStore):
        client = TestClient(PlusIsSpace(Application(store, None)))
        return lambda path: client.get("/" + path)
    running: Endpoint = request.getfixturevalue("s3_endpoint")
    bucket = store.name.partition("://")[2]
    return lambda path: httpx.get(f"{running.url}/{bucket}/{path}")


NAME = "vllm-0.5.4+cu118-cp38-abi3-manylinux1_x86_64.whl"


@pytest.mark.parametrize("address", [NAME, NAME.replace("+", "%2B"), NAME.replace("+", "%20")])
def test_a_plus_is_answered_however_a_client_sends_it(
    store: Store, http: Callable[[str], httpx.Response], address: str
) -> None:
    put(store, f"nightly/{NAME}", A)
    answer = http(f"nightly/{address}")
    assert (answer.status_code, answer.content) == (200, b"a")


@pytest.mark.parametrize("address", ["whl/cu118/vllm/", "whl/cu118/vllm/index.html"])
def test_a_folder_is_answered_by_its_index_page(
    store: Store, http: Callable[[str], httpx.Response], address: str
) -> None:
    put(store, "whl/cu118/vllm/index.html", A)
    answer = http(address)
    assert (answer.status_code, answer.content) == (200, b"a")
    assert answer.headers["content-type"].startswith("text/html")


COMMIT = "0123456789abcdef0123456789abcdef01234567"
IMMUTABLE = "public, max-age=31536000, immutable"


@pytest.mark.parametrize(
    ("key", "content_type", "cache_control"),
    [
        (f"{COMMIT}/{NAME}", "application/octet-stream", IMMUTABLE),
        (f"{COMMIT}/{NAME}.metadata", "text/plain; charset=utf-8", IMMUTABLE),
        (f"{COMMIT}/manifest.json", "application/json", IMMUTABLE),
        (f"{COMMIT}/status.json", "application/json", "no-cache"),
        (f"{COMMIT}/index.html", "text/html; charset=utf-8", "no-cache"),
        (
            f"{COMMIT}/cu118/vllm/index.json",
            "application/vnd.pypi.simple.v1+json",
            "no-cache",
        ),
        (f"nightly/{NAME}", "application/octet-stream", "no-cache"),
        (f"releases/download/v0.5.4/{NAME}", "application/octet-stream", IMMUTABLE),
        ("releases/download/v0.5.4/index.html", "text/html; charset=utf-8", "no-cache"),
        ("whl/cu118/vllm/index.json", "application/vnd.pypi.simple.v1+json", "no-cache"),
        ("state/nightly.json", "application/json", "no-cache"),
    ],
)
def test_an_object_says_what_it_is_and_how_long_it_may_be_kept(
    store: Store,
    http: Callable[[str], httpx.Response],
    key: str,
    content_type: str,
    cache_control: str,
) -> None:
    put(store, key, A)
    answer = http(quote(key))
    assert answer.headers["content-type"] == content_type
    assert answer.headers["cache-control"] == cache_control


def test_a_copy_has_the_headers_of_its_own_place(
    store: Store, http: Callable[[str], httpx.Response]
) -> None:
    put(store, f"{COMMIT}/{NAME}", A)
    key = f"nightly/{NAME}"
    for address in (*store.aliases(key), key):
        store.copy(f"{COMMIT}/{NAME}", address, None)
    assert http(quote(key)).headers["cache-control"] == "no-cache"
