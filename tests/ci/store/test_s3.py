"""What only S3 can get wrong: credentials, networks, lost answers, keys with two addresses."""

from __future__ import annotations

import socket
import traceback
from collections.abc import Callable

import pytest

from ci.store import (
    AccessDenied,
    AlreadyExists,
    Body,
    Changed,
    StoreError,
    StoreUnavailable,
    open_store,
)
from ci.store.s3 import S3Store
from tests.ci.support.s3 import Answer, Endpoint, HungUp, error

A = Body.of(b"a")
B = Body.of(b"b")


def operations(store: S3Store) -> list[Callable[[], object]]:
    return [
        lambda: store.get("x"),
        lambda: store.head("x"),
        lambda: store.create("y", A),
        lambda: store.replace("x", B, "etag"),
        lambda: store.copy("x", "z", None),
        lambda: list(store.list("")),
        lambda: list(store.folders()),
        lambda: store.delete("x"),
    ]


pytestmark = pytest.mark.usefixtures("impatient")


@pytest.mark.parametrize(
    "code", ["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"]
)
def test_a_refusal_says_what_to_look_at_and_shows_no_credentials(
    s3_store: S3Store, s3_endpoint: Endpoint, code: str
) -> None:
    s3_endpoint.fault = lambda environ, carry_out: error(403, code)
    for operation in operations(s3_store):
        with pytest.raises(AccessDenied) as caught:
            operation()
        shown = "".join(traceback.format_exception(caught.value))
        assert s3_store.name in shown
        assert "AKIATESTS" not in shown
        assert "not-to-be-shown" not in shown
    # HEAD has no body, so its code is the bare number.
    assert "docs/publishing.md" in str(caught.value)


def test_a_bucket_that_is_not_there_is_told_from_an_empty_one(s3_store: S3Store) -> None:
    store = S3Store("no-such-bucket", s3_store._client)
    for operation in (lambda: store.get("x"), lambda: store.create("x", A)):
        with pytest.raises(StoreUnavailable, match="NoSuchBucket") as caught:
            operation()
    assert "create the bucket" in str(caught.value)
    with pytest.raises(StoreUnavailable, match="NoSuchBucket"):
        list(store.list(""))


def test_no_credentials_at_all_say_where_to_put_them(
    s3_endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    store = open_store("s3://bucket")
    with pytest.raises(AccessDenied, match="no credentials were found") as caught:
        store.get("x")
    assert "AWS_ACCESS_KEY_ID" in str(caught.value)


def test_an_endpoint_that_does_not_answer_shows_no_credentials(
    s3_endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        port = taken.getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:hunter2@127.0.0.1:{port}")
        store = open_store("s3://bucket")
        with pytest.raises(StoreUnavailable) as caught:
            store.get("x")
    shown = "".join(traceback.format_exception(caught.value))
    assert "hunter2" not in shown
    assert "AWS_ENDPOINT_URL" in shown


@pytest.mark.parametrize("status", [500, 503])
def test_a_failing_bucket_is_tried_again_and_then_given_up(
    s3_store: S3Store, s3_endpoint: Endpoint, status: int
) -> None:
    before = len(s3_endpoint.requests)
    s3_endpoint.fault = lambda environ, carry_out: error(status, "InternalError")
    with pytest.raises(StoreUnavailable, match="repeat the command later"):
        s3_store.get("x")
    assert len(s3_endpoint.requests) - before == 4


def once(what: Callable[[Callable[[], Answer]], Answer]) -> Callable[..., Answer]:
    """A fault of the next request only."""
    left = [what]

    def fault(environ: object, carry_out: Callable[[], Answer]) -> Answer:
        return left.pop()(carry_out) if left else carry_out()

    return fault


def lose_answer(carry_out: Callable[[], Answer]) -> Answer:
    carry_out()
    raise HungUp


def test_a_lost_answer_to_a_creation_ends_as_already_there(
    s3_store: S3Store, s3_endpoint: Endpoint
) -> None:
    """Which is why callers look at what is there: it may be their own."""
    s3_store.create("y", A)  # what the store is was found out at the first write
    s3_endpoint.fault = once(lose_answer)
    with pytest.raises(AlreadyExists):
        s3_store.create("x", A)
    assert s3_store.get("x").body == b"a"


def test_a_lost_answer_to_a_replacement_ends_as_changed(
    s3_store: S3Store, s3_endpoint: Endpoint
) -> None:
    etag = s3_store.create("x", A)
    s3_endpoint.fault = once(lose_answer)
    with pytest.raises(Changed):
        s3_store.replace("x", B, etag)
    assert s3_store.get("x").body == b"b"


def test_a_conflict_with_another_write_under_way_is_one_to_look_at(
    s3_store: S3Store, s3_endpoint: Endpoint
) -> None:
    s3_store.create("y", A)
    s3_endpoint.fault = once(lambda carry_out: error(409, "ConditionalRequestConflict"))
    with pytest.raises(AlreadyExists):
        s3_store.create("x", A)


def test_a_body_that_breaks_off_is_an_error_and_not_a_short_object(
    s3_store: S3Store, s3_endpoint: Endpoint
) -> None:
    s3_store.create("x", Body.of(b"0123456789"))
    entry = s3_store.head("x")

    def half(environ: object, carry_out: Callable[[], Answer]) -> Answer:
        status, headers, body = carry_out()
        return status, headers, body[: len(body) // 2]

    s3_endpoint.fault = half
    with pytest.raises(StoreUnavailable):
        s3_store.get("x")
    with pytest.raises(StoreUnavailable):
        list(s3_store.read(entry))


def test_an_object_without_a_checksum_is_hashed_by_whoever_needs_it(s3_store: S3Store) -> None:
    s3_store._client.put_object(Bucket=s3_store.bucket, Key="x", Body=b"a")
    assert s3_store.head("x").sha256 in (None, A.sha256)


@pytest.mark.parametrize(
    ("key", "aliases"),
    [
        ("nightly/vllm-0.5.4+cu118.whl", ("nightly/vllm-0.5.4 cu118.whl",)),
        ("whl/cu118/vllm/index.html", ("whl/cu118/vllm/",)),
        ("whl/cu118/vllm/index.json", ()),
        ("index.html", ()),
        ("state/nightly.json", ()),
    ],
)
def test_an_object_lies_where_the_rest_endpoint_looks(
    s3_store: S3Store, key: str, aliases: tuple[str, ...]
) -> None:
    assert s3_store.aliases(key) == aliases


@pytest.mark.parametrize(
    "where", ["s3://", "s3://Name", "s3://a/prefix", "gs://bucket", "http://x"]
)
def test_an_invalid_bucket_name_is_refused(where: str) -> None:
    with pytest.raises(StoreError, match="is not a bucket"):
        open_store(where)
