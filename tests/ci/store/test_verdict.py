"""A store's support of S3's preconditions is probed before the first write, and used."""

from __future__ import annotations

import json

import pytest

from ci.publish import publish, status
from ci.publish.reindex import reindex
from ci.store import Body, Changed, Untrusted
from ci.store.s3 import S3Store
from ci.store.verdict import KEY, OWN
from tests.ci.support import dialects
from tests.ci.support.dialects import Dialect, ignoring
from tests.ci.support.s3 import Endpoint, HungUp, error
from tests.ci.support.wheels import Factory, clock

A, B = Body.of(b"a"), Body.of(b"b")

pytestmark = pytest.mark.usefixtures("impatient")


def recorded(store: S3Store) -> dict[str, bool]:
    answer = store._client.get_object(Bucket=store.bucket, Key=KEY)
    (verdict,) = json.loads(answer["Body"].read())["endpoints"].values()
    return verdict


def own_keys(store: S3Store) -> list[str]:
    answer = store._client.list_objects_v2(Bucket=store.bucket, Prefix=OWN)
    return [item["Key"] for item in answer.get("Contents", [])]


@pytest.mark.parametrize(
    ("dialect", "named"),
    [
        (ignoring("If-None-Match"), "ignores If-None-Match: the same key was created twice"),
        (ignoring("If-Match"), "ignores If-Match: a version other than the named one was replaced"),
        (
            ignoring("x-amz-checksum-sha256", "x-amz-sdk-checksum-algorithm", "Content-MD5"),
            "ignores x-amz-checksum-sha256 and Content-MD5",
        ),
        (ignoring("If-None-Match", "If-Match"), "ignores If-None-Match"),
    ],
)
def test_a_store_that_ignores_a_condition_is_refused_by_its_name(
    s3_store: S3Store, s3_endpoint: Endpoint, factory: Factory, dialect: Dialect, named: str
) -> None:
    s3_endpoint.fault = dialect
    commit = factory.commit(1)
    with pytest.raises(Untrusted, match=named):
        publish(s3_store, factory.wheels(commit), commit, factory.matrix)
    assert list(s3_store.list("")) == []
    assert own_keys(s3_store) == []


def test_a_store_that_replaces_nothing_is_refused(s3_store: S3Store, s3_endpoint: Endpoint) -> None:
    def never(environ, carry_out):
        if "HTTP_IF_MATCH" in environ and environ["REQUEST_METHOD"] == "PUT":
            environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            return error(412, "PreconditionFailed")
        return carry_out()

    s3_endpoint.fault = never
    with pytest.raises(Untrusted, match="refuses If-Match with the right ETag"):
        s3_store.create("x", A)


@pytest.mark.parametrize(
    ("dialect", "verdict"),
    [
        (None, {"bare_etags": False, "checks_sha256": True, "conditional_copy": True}),
        (
            dialects.radosgw,
            {"bare_etags": True, "checks_sha256": False, "conditional_copy": False},
        ),
        (
            ignoring("If-Match", "If-None-Match", puts=False),
            {"bare_etags": False, "checks_sha256": True, "conditional_copy": False},
        ),
    ],
)
def test_the_verdict_is_recorded_and_asked_for_once(
    s3_store: S3Store, s3_endpoint: Endpoint, dialect: Dialect | None, verdict: dict[str, bool]
) -> None:
    s3_endpoint.fault = dialect
    etag = s3_store.create("x", A)
    assert recorded(s3_store) == {**verdict, "etag_is_md5": True}
    assert own_keys(s3_store) == [KEY]  # nothing of the probe is left
    again = S3Store(s3_store.bucket, s3_store._client)
    s3_endpoint.requests.clear()
    etag = again.replace("x", B, etag)
    again.replace("x", A, etag)
    assert [method for method, _ in s3_endpoint.requests] == ["GET", "PUT", "PUT"]
    with pytest.raises(Changed):
        again.replace("x", B, etag)
    assert [entry.key for entry in s3_store.list("")] == ["x"]
    assert list(s3_store.folders()) == []


def test_another_endpoint_is_probed_for_itself(
    s3_store: S3Store, s3_endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_store.create("x", A)
    other = S3Store(s3_store.bucket, s3_store._client)
    monkeypatch.setattr(type(other._requests), "endpoint", "http://elsewhere")
    s3_endpoint.fault = ignoring("If-Match")
    with pytest.raises(Untrusted):
        other.create("y", A)


@pytest.mark.parametrize("lost", range(16))
def test_a_lost_response_is_not_taken_for_a_verdict(
    s3_store: S3Store, s3_endpoint: Endpoint, lost: int
) -> None:
    """botocore repeats a write that was carried out, and the repetition is refused."""
    left = [lost]

    def lose(environ, carry_out):
        left[0] -= 1
        if left[0] == -1:
            carry_out()
            raise HungUp
        return carry_out()

    s3_endpoint.fault = lose
    s3_store.create("y", A)
    expected = {"bare_etags": False, "checks_sha256": True, "etag_is_md5": True}
    assert recorded(s3_store) == {**expected, "conditional_copy": True}


@pytest.mark.parametrize("dialect", [dialects.radosgw, dialects.opaque_etags])
def test_unchanged_objects_are_not_written(
    s3_store: S3Store, s3_endpoint: Endpoint, factory: Factory, dialect: Dialect
) -> None:
    s3_endpoint.fault = dialect
    for number in (1, 2):
        commit = factory.commit(number)
        wheels = factory.wheels(commit)
        publish(s3_store, wheels, commit, factory.matrix, clock=clock)
    store = S3Store(s3_store.bucket, s3_store._client)
    s3_endpoint.requests.clear()
    assert publish(store, wheels, commit, factory.matrix).pages == ()
    assert reindex(store, factory.matrix, lambda step: None).written == ()
    assert {method for method, _ in s3_endpoint.requests} <= {"GET", "HEAD", "LIST"}
    assert status.of_bucket(store, factory.matrix).problems == ()


def test_a_copy_is_conditional_also_where_copies_are_not(
    s3_store: S3Store, s3_endpoint: Endpoint
) -> None:
    s3_endpoint.fault = dialects.radosgw
    s3_store.create("a", A)
    s3_store.create("b", B)
    s3_store.copy("a", "nightly/c", None)
    with pytest.raises(Changed):
        s3_store.copy("b", "nightly/c", None)
    seen = s3_store.head("nightly/c")
    s3_store.copy("b", "nightly/c", seen.etag)
    with pytest.raises(Changed):
        s3_store.copy("a", "nightly/c", seen.etag)
    assert s3_store.get("nightly/c").body == b"b"
