"""Commits with wheels, and buckets of both kinds to put them in."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mypy_boto3_s3 import S3Client

from ci import matrix
from ci.matrix import Matrix
from ci.store import FolderStore, Store
from ci.store.s3 import S3Store, make_client
from tests.ci.support.s3 import Endpoint, endpoint
from tests.ci.support.wheels import Factory

READER = Path(__file__).parents[2] / "docs/policies/reader.json"

_numbers = itertools.count()


@pytest.fixture(scope="session")
def the_matrix() -> Matrix:
    return matrix.load()


@pytest.fixture(scope="session")
def factory(tmp_path_factory: pytest.TempPathFactory, the_matrix: Matrix) -> Factory:
    """Of the variants that each commit has."""
    return Factory(tmp_path_factory.mktemp("wheels"), the_matrix.of_commit())


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[Endpoint]:
    """S3 on loopback, and the environment in which boto3 finds it."""
    with endpoint() as running, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", running.url)
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTS")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "not-to-be-shown")
        patch.setenv("AWS_DEFAULT_REGION", "us-west-2")
        patch.setenv("AWS_CONFIG_FILE", "/dev/null")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        yield running


@pytest.fixture
def s3_store(s3_endpoint: Endpoint) -> Iterator[S3Store]:
    """A new bucket on the endpoint, with nothing going wrong yet."""
    yield new_s3_store()
    s3_endpoint.fault = None


@pytest.fixture(params=["folder", "s3"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Makes empty buckets, of each kind in turn."""
    if request.param == "folder":
        yield lambda: FolderStore(tmp_path / f"bucket{next(_numbers)}", durable=False)
    else:
        running: Endpoint = request.getfixturevalue("s3_endpoint")
        yield new_s3_store
        running.fault = None


@pytest.fixture
def store(new_store: Callable[[], Store]) -> Store:
    """An empty bucket, of each kind in turn."""
    return new_store()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore waits between its tries; here nobody else needs the time."""
    name = "botocore.retries.standard.ExponentialBackoff.delay_amount"
    monkeypatch.setattr(name, lambda self, context: 0.0)


@functools.cache
def client_of(endpoint_url: str) -> S3Client:
    """One client for all buckets: making one takes longer than most tests."""
    return make_client()


def new_s3_store() -> S3Store:
    """An empty bucket that anyone may read, as docs/publishing.md sets one up."""
    client = client_of(os.environ["AWS_ENDPOINT_URL"])
    name = f"bucket{next(_numbers)}"
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    client.put_bucket_policy(Bucket=name, Policy=READER.read_text().replace("BUCKET", name))
    return S3Store(name, client)
