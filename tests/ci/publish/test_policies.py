"""Each policy in docs/policies allows what its role needs, and nothing else."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import httpx
import pytest
from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.responses import ActionAuthenticatorMixin

from ci.publish import care, prune, publish
from ci.store import AccessDenied, Body
from ci.store.s3 import S3Store, make_client
from tests.ci.support.s3 import Endpoint
from tests.ci.support.wheels import Factory

POLICIES = Path(__file__).parents[3] / "docs/policies"
NEXT_YEAR = datetime(2027, 11, 5, tzinfo=timezone.utc)
_users = itertools.count()


@pytest.fixture
def acting_as(
    s3_store: S3Store, s3_endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], S3Store]]:
    """The bucket as a user sees it who has one of the policies; moto then enforces them."""
    iam = get_backend("iam")[DEFAULT_ACCOUNT_ID]["aws"]

    def become(policy: str) -> S3Store:
        name = f"{policy}{next(_users)}"
        iam.create_user("us-west-2", name)
        key = iam.create_access_key(name)
        document = (POLICIES / f"{policy}.json").read_text().replace("BUCKET", s3_store.bucket)
        iam.put_user_policy(name, policy, document)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key.access_key_id)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key.secret_access_key)
        monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0)
        return S3Store(s3_store.bucket, make_client())

    before = ActionAuthenticatorMixin.request_count
    yield become
    ActionAuthenticatorMixin.request_count = before


def test_a_publisher_publishes_and_cannot_remove(
    acting_as: Callable[[str], S3Store], factory: Factory
) -> None:
    publisher = acting_as("publisher")
    commits = [factory.commit(number) for number in (1, 2)]
    for commit in commits:
        publish(publisher, factory.wheels(commit), commit, factory.matrix)
    care.yank(publisher, commits[1].sha, "bad")
    assert care.promote(publisher, commits[0].sha).nightly == commits[0].sha
    with pytest.raises(AccessDenied):
        publisher.delete(f"{commits[0].sha}/manifest.json")


def test_a_pruner_removes(acting_as: Callable[[str], S3Store], factory: Factory) -> None:
    pruner = acting_as("pruner")
    for number in (1, 2):
        commit = factory.commit(number)
        publish(pruner, factory.wheels(commit), commit, factory.matrix)
    decisions = prune.plan(pruner, keep=1, older_than=timedelta(0), now=NEXT_YEAR)
    prune.prune(pruner, decisions, now=NEXT_YEAR, report=lambda step: None)
    assert [entry.key for entry in pruner.list(factory.commit(1).sha)] == [
        f"{factory.commit(1).sha}/status.json"
    ]


def test_a_reader_reads_without_credentials_and_cannot_write(
    s3_store: S3Store, s3_endpoint: Endpoint
) -> None:
    s3_store.create("index.html", Body.of(b"page"))
    url = f"{s3_endpoint.url}/{s3_store.bucket}/index.html"
    assert httpx.get(url).text == "page"
    assert httpx.put(url, content=b"defaced").status_code == 403
    assert httpx.delete(url).status_code == 403
    assert s3_store.get("index.html").body == b"page"


def test_a_reader_is_told_that_a_key_is_missing(s3_store: S3Store, s3_endpoint: Endpoint) -> None:
    """uv gives up on a project for which an index says 403, and tries the next one at 404."""
    url = f"{s3_endpoint.url}/{s3_store.bucket}/whl/nightly/cu121/torch/"
    assert httpx.get(url).status_code == 404
    policy = json.loads((POLICIES / "reader.json").read_text().replace("BUCKET", s3_store.bucket))
    policy["Statement"] = [each for each in policy["Statement"] if each["Action"] == "s3:GetObject"]
    client = make_client()
    client.put_bucket_policy(Bucket=s3_store.bucket, Policy=json.dumps(policy))
    assert httpx.get(url).status_code == 403


def test_the_documents_name_these_policies() -> None:
    text = (POLICIES.parent / "publishing.md").read_text()
    policies = sorted(POLICIES.glob("*.json"))
    assert policies
    for path in policies:
        json.loads(path.read_text())
        assert f"policies/{path.name}" in text
