"""The server's responses: the right bytes and headers, and nothing from outside of the bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from ci.git import Commit
from ci.publish import begin, care, fail, publish
from ci.serve import Application
from ci.store import AccessDenied, Body, FolderStore, StoreUnavailable
from tests.ci.support.wheels import Factory, clock

WHEEL = "vllm-0.5.4-cp38-abi3-manylinux1_x86_64.whl"
PLUS = "vllm-0.5.4+cu118-cp38-abi3-manylinux1_x86_64.whl"
JSON = "application/vnd.pypi.simple.v1+json"
HTML = "application/vnd.pypi.simple.v1+html"
# What each client really sends.
PIP = f"{JSON}, {HTML}; q=0.1, text/html; q=0.01"
UV = f"{JSON}, {HTML};q=0.2, text/html;q=0.01"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.fixture(scope="module")
def commit(factory: Factory) -> Commit:
    return factory.commit(1)


@pytest.fixture(scope="module")
def bucket(
    tmp_path_factory: pytest.TempPathFactory, factory: Factory, commit: Commit
) -> FolderStore:
    store = FolderStore(tmp_path_factory.mktemp("served") / "bucket", durable=False)
    publish(store, factory.wheels(commit), commit, factory.matrix, clock=clock)
    return store


@pytest.fixture(scope="module")
def client(bucket: FolderStore) -> TestClient:
    return TestClient(
        Application(bucket, "https://upstream.example/simple/"), follow_redirects=False
    )


def test_a_wheel_is_sent_whole(client: TestClient, bucket: FolderStore, commit: Commit) -> None:
    answer = client.get(f"/{commit.sha}/{WHEEL}")
    assert answer.content == bucket.get(f"{commit.sha}/{WHEEL}").body
    assert answer.headers["content-length"] == str(len(answer.content))
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["accept-ranges"] == "bytes"
    assert client.get(f"/nightly/{WHEEL}").headers["cache-control"] == "no-cache"


def test_head_is_get_without_the_body(client: TestClient) -> None:
    for path in (f"/nightly/{WHEEL}", "/nightly/cu118/vllm/", "/", "/nothing"):
        got, head = client.get(path), client.head(path)
        assert head.content == b""
        assert head.status_code == got.status_code
        for name in ("content-length", "content-type", "etag", "cache-control"):
            assert head.headers.get(name) == got.headers.get(name)


def test_an_unchanged_object_is_not_sent_again(client: TestClient) -> None:
    first = client.get(f"/nightly/{WHEEL}")
    etag = first.headers["etag"]
    for known in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        again = client.get(f"/nightly/{WHEEL}", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
    other = client.get(f"/nightly/{WHEEL}", headers={"If-None-Match": '"other"'})
    assert other.status_code == 200
    since = {"If-Modified-Since": first.headers["last-modified"]}
    assert client.get(f"/nightly/{WHEEL}", headers=since).status_code == 304
    since["If-None-Match"] = '"other"'  # which comes first
    assert client.get(f"/nightly/{WHEEL}", headers=since).status_code == 200
    nonsense = {"If-Modified-Since": "yesterday"}
    assert client.get(f"/nightly/{WHEEL}", headers=nonsense).status_code == 200


def test_the_two_forms_of_a_page_have_their_own_etags(client: TestClient) -> None:
    html = client.get("/nightly/cu118/vllm/", headers={"Accept": "text/html"})
    json = client.get("/nightly/cu118/vllm/", headers={"Accept": JSON})
    assert html.headers["etag"] != json.headers["etag"]
    assert html.headers["vary"] == json.headers["vary"] == "Accept"


@pytest.mark.parametrize(
    ("wanted", "status", "part"),
    [
        ("bytes=0-0", 206, slice(0, 1)),
        ("bytes=10-19", 206, slice(10, 20)),
        ("bytes=100-", 206, slice(100, None)),
        ("bytes=-100", 206, slice(-100, None)),
        ("bytes=-999999", 206, slice(None)),
        ("bytes=0-999999", 206, slice(None)),
        ("bytes=999999-", 416, slice(0)),
        ("bytes=-0", 416, slice(0)),
        ("bytes=5-2", 200, slice(None)),
        ("bytes=0-1,4-5", 200, slice(None)),
        ("bytes=a-b", 200, slice(None)),
        ("lines=0-1", 200, slice(None)),
        ("bytes=-", 200, slice(None)),
        (f"bytes={'9' * 30}-", 200, slice(None)),
        ("bytes=٠-٩", 200, slice(None)),
    ],
)
def test_a_range_is_answered_as_http_says(
    client: TestClient, wanted: str, status: int, part: slice
) -> None:
    whole = client.get(f"/nightly/{WHEEL}").content
    answer = client.get(f"/nightly/{WHEEL}", headers={"Range": wanted.encode()})  # type: ignore[dict-item]
    assert answer.status_code == status
    assert answer.content == whole[part]
    if status == 206:
        start = part.indices(len(whole))[0]
        stop = start + len(answer.content)
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(whole)}"
    if status == 416:
        assert answer.headers["content-range"] == f"bytes */{len(whole)}"


def test_a_range_of_another_version_is_answered_in_full(client: TestClient) -> None:
    etag = client.get(f"/nightly/{WHEEL}").headers["etag"]
    for if_range, status in ((etag, 206), ('"other"', 200)):
        headers = {"Range": "bytes=0-9", "If-Range": if_range}
        assert client.get(f"/nightly/{WHEEL}", headers=headers).status_code == status


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (PIP, JSON),
        (UV, JSON),
        (BROWSER, "text/html; charset=utf-8"),
        ("*/*", "text/html; charset=utf-8"),
        ("", "text/html; charset=utf-8"),
        ("text/html", "text/html; charset=utf-8"),
        (HTML, HTML),
        ("application/vnd.pypi.simple.latest+json", JSON),
        ("application/vnd.pypi.simple.latest+html", HTML),
        (f"{JSON};q=0, */*", "text/html; charset=utf-8"),
        (f"{HTML};q=0.5, {JSON};q=0.6", JSON),
        ("application/*", JSON),
        (f"text/html;q=nonsense, {JSON};q=0.1", JSON),
    ],
)
def test_a_page_is_sent_in_the_form_that_the_client_prefers(
    client: TestClient, accept: str, content_type: str
) -> None:
    answer = client.get("/whl/nightly/cu118/vllm/", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == content_type
    assert ("json" in content_type) == answer.text.startswith("{")


def test_an_unknown_media_type_is_refused(client: TestClient) -> None:
    answer = client.get("/whl/nightly/cu118/vllm/", headers={"Accept": "image/png"})
    assert answer.status_code == 406


@pytest.mark.parametrize(
    ("path", "status", "location"),
    [
        ("/whl/nightly/cu118/torch/", 302, "https://upstream.example/simple/torch/"),
        ("/whl/cu118/torch/", 302, "https://upstream.example/simple/torch/"),
        ("/nightly/cu121/NumPy", 302, "https://upstream.example/simple/numpy/"),
        (f"/{'0' * 40}/cu121/ruamel.yaml/", 302, "https://upstream.example/simple/ruamel-yaml/"),
        ("/whl/nightly/cu118/vllm", 308, "/whl/nightly/cu118/vllm/"),
        ("/whl/nightly/cu118/VLLM/", 308, "/whl/nightly/cu118/vllm/"),
        ("/nightly", 308, "/nightly/"),
        ("/nightly/cu118", 308, "/nightly/cu118/"),
    ],
)
def test_what_lies_elsewhere_is_redirected(
    client: TestClient, path: str, status: int, location: str
) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.headers["location"]) == (status, location)


def test_our_own_name_is_never_redirected(client: TestClient) -> None:
    """Also where the index is not there: whoever holds the name upstream must not answer."""
    for path in ("/whl/cu118/vllm/", "/whl/cu999/vllm/", f"/{'0' * 40}/cu118/vllm/"):
        assert client.get(path).status_code == 404


def test_without_an_upstream_other_projects_are_not_found(bucket: FolderStore) -> None:
    answer = TestClient(Application(bucket, None)).get("/nightly/cu118/torch/")
    assert answer.status_code == 404
    assert "UPSTREAM_INDEX" in answer.text


OUTSIDE = [
    "/../outside",
    "/nightly/../../outside",
    "/%2e%2e/outside",
    "/..%2foutside",
    "/nightly/..%2f..%2foutside",
    "/%2e%2e%2foutside",
    "/%252e%252e%252foutside",
    "/..%5coutside",
    "/nightly%2f" + WHEEL,
    "//outside",
    "//etc/passwd",
    "/etc/passwd",
    "/.bucket.work/lock",
    "/../.bucket.work/lock",
    "/link",
    "/linked/outside",
    "/%00",
    "/nightly/%00" + WHEEL,
    "/nightly/" + WHEEL + "%0a",
    "/%ff%fe",
    "/ｎightly/" + WHEEL,
    "/<script>alert(1)</script>",
    "/whl/cu118/<script>/",
    "/whl/cu118/..%2f..%2fx/",
    "/whl/cu118/ⅴⅼⅼm/",
    "/whl/cu118/torch%0d%0aSet-Cookie:x/",
    "/" + "a" * 2000,
    "/" + "a/" * 400,
]


@pytest.fixture
def with_secrets(bucket: FolderStore) -> Iterator[None]:
    """A secret beside the bucket, and links that lead to it."""
    outside = bucket.root.parent / "outside"
    outside.write_text("SECRET")
    (bucket.root / "link").symlink_to(outside)
    (bucket.root / "linked").symlink_to(bucket.root.parent)
    yield
    for name in ("link", "linked"):
        (bucket.root / name).unlink()


@pytest.mark.usefixtures("with_secrets")
@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("accept", ["*/*", BROWSER])
def test_nothing_outside_of_the_bucket_is_answered(
    bucket: FolderStore, path: str, accept: str
) -> None:
    application = Application(bucket, "https://upstream.example/simple")
    answer = raw_request(application, path, accept)
    assert answer.status_code == 404
    assert "SECRET" not in answer.text
    assert "<script>" not in answer.text
    assert "set-cookie" not in answer.headers
    assert str(bucket.root) not in answer.text


def raw_request(application: Application, path: str, accept: str):
    """Sends the very path: a client of one's own would tidy it up first."""

    async def with_raw_path(scope, receive, send):
        await application({**scope, "raw_path": path.encode()}, receive, send)

    return TestClient(with_raw_path, follow_redirects=False).get("/", headers={"Accept": accept})


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_written(client: TestClient, method: str) -> None:
    answer = client.request(method, f"/nightly/{WHEEL}", content=b"x")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"


def test_a_missing_commit_says_what_became_of_it(
    bucket: FolderStore, client: TestClient, factory: Factory, commit: Commit
) -> None:
    def why(number: int, accept: str = "*/*") -> str:
        path = f"/{factory.commit(number).sha}/{WHEEL}"
        answer = client.get(path, headers={"Accept": accept})
        assert answer.status_code == 404
        assert answer.headers["cache-control"] == "no-store"
        return answer.text

    assert "was started here" in why(11)
    begin(bucket, factory.commit(12), clock=clock)
    assert "has been building or uploading since 2026-11-05T12:00:00Z" in why(12)
    fail(bucket, factory.commit(13), "nvcc: <b>no</b> memory", clock=clock)
    assert "has no wheels: nvcc: <b>no</b> memory" in why(13)
    assert "It is: Change number 13" in why(13)
    assert f"Nearest with wheels: {commit.sha} (number 1, " in why(13)
    assert f'<a href="/{commit.sha}/">' in why(13, BROWSER)
    assert "has no wheels: nvcc: &lt;b&gt;no&lt;/b&gt; memory" in why(13, BROWSER)
    answer = client.get(f"/{commit.sha}/vllm-9.whl")
    assert "is complete: 6 wheels" in answer.text
    assert "it has no file of this name, vllm-9.whl. It has: " in answer.text
    assert WHEEL in answer.text


def test_a_short_hash_gets_the_whole_one(client: TestClient, commit: Commit) -> None:
    short = commit.sha[:9]
    answer = client.get(f"/{short}/{WHEEL}")
    assert answer.status_code == 404  # a bucket has no redirects either
    assert f"named by all 40 digits of its hash, not by {short}." in answer.text
    assert f"A commit that begins so: {commit.sha} (number 1, " in answer.text
    assert (
        f'<a href="/{commit.sha}/">' in client.get(f"/{short}/", headers={"Accept": BROWSER}).text
    )
    other = "0" * 7 if not commit.sha.startswith("0" * 7) else "1" * 7
    answer = client.get(f"/{other}/")
    assert f"not by {other}." in answer.text
    assert "begins so" not in answer.text


def test_a_record_that_was_edited_by_hand_is_reported(
    bucket: FolderStore, client: TestClient, factory: Factory
) -> None:
    sha = factory.commit(14).sha
    path = Path(bucket.name) / sha / "status.json"
    path.parent.mkdir()
    path.write_text('{"schema": 1, "state": "<script>"}')
    answer = client.get(f"/{sha}/{WHEEL}", headers={"Accept": BROWSER})
    assert answer.status_code == 404
    assert "status.json" in answer.text
    assert "<script>" not in answer.text
    path.unlink()


def test_a_failing_bucket_is_not_a_404(bucket: FolderStore) -> None:
    class Failing(FolderStore):
        error: Exception = StoreUnavailable("s3://x is away", do="SECRET advice")

        def head(self, key: str):
            raise self.error

    failing = Failing(bucket.root)
    client = TestClient(Application(failing, None))
    assert client.get("/nightly/").status_code == 502
    failing.error = AccessDenied("cannot read: AccessDenied")
    assert client.get("/nightly/").status_code == 502


def test_a_page_that_changes_while_it_is_read_is_read_again(
    tmp_path: Path, factory: Factory
) -> None:
    class Changing(FolderStore):
        """Replaces an object between looking at it and reading it, so many times."""

        changes = 2

        def read(self, entry, start=0, stop=None):
            if self.changes:
                self.changes -= 1
                body = self.get(entry.key).body + b"!"
                self.replace(entry.key, Body.of(body), entry.etag)
            return super().read(entry, start, stop)

    store = Changing(tmp_path / "bucket", durable=False)
    store.create("index.html", Body.of(b"page"))
    answer = TestClient(Application(store, None)).get("/")
    assert (answer.status_code, answer.content) == (200, b"page!!")
    assert answer.headers["content-length"] == "6"
    store.changes = 99
    assert TestClient(Application(store, None)).get("/").status_code == 503


def test_a_yank_is_seen_at_once(bucket: FolderStore, client: TestClient, commit: Commit) -> None:
    path = f"/{commit.sha}/cu121/vllm/"
    etag = client.get(path).headers["etag"]
    care.yank(bucket, commit.sha, "bad")
    answer = client.get(path, headers={"If-None-Match": etag})
    assert answer.status_code == 200
    assert "data-yanked" in answer.text
    care.yank(bucket, commit.sha, None)
