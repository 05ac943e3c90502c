"""A publication makes exactly the requests to S3 that docs/publishing.md lists."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ci.matrix import Matrix
from ci.publish import publish
from ci.publish.reindex import reindex
from ci.publish.signed import Signer
from ci.store.s3 import S3Store
from tests.ci.conftest import client_of
from tests.ci.support.experiment import role
from tests.ci.support.history import seed
from tests.ci.support.labs import S3Lab
from tests.ci.support.s3 import Endpoint
from tests.ci.support.toolchain import with_symbols
from tests.ci.support.wheels import Factory, clock

DOCS = Path(__file__).parents[3] / "docs/publishing.md"
READS = {"GET", "HEAD", "LIST"}


def documented() -> Counter[str]:
    """The table of requests in docs/publishing.md: request → how many."""
    row = r"^\| `((?:GET|HEAD|LIST|PUT|COPY) [^`]+)` \| (\d+) \|"
    rows = re.findall(row, DOCS.read_text(), re.MULTILINE)
    return Counter({request: int(count) for request, count in rows})


def asked(endpoint: Endpoint, bucket: str) -> Counter[str]:
    found = Counter()
    for method, path in endpoint.requests:
        key = unquote(path).removeprefix(f"/{bucket}/")
        name = role(method, f"{key}*" if method == "LIST" else key)
        found[name.rstrip("*")] += 1
    return found


def with_libraries(factory: Factory, folder: Path) -> Factory:
    """Makes wheels with a host library each, whose debug symbols are published, too."""
    libraries = {
        platform.processor: with_symbols("int x;", platform.zig_target)
        for platform in factory.matrix.platforms
    }
    return Factory(folder, factory.matrix, libraries=libraries)


@pytest.mark.parametrize("count", [1, 200])
def test_a_commit_costs_what_the_table_says_whatever_the_history(
    s3_endpoint: Endpoint, factory: Factory, tmp_path: Path, count: int
) -> None:
    factory = with_libraries(factory, tmp_path)
    lab = S3Lab(s3_endpoint, client_of(s3_endpoint.url))
    bucket = lab.copy(None)
    seed(lab.writer(bucket), bucket, factory, count, whole=False)
    first, second = factory.commit(count + 1), factory.commit(count + 2)
    signer = Signer(Ed25519PrivateKey.generate())
    how = {"signer": signer, "clock": clock}
    publish(bucket, factory.wheels(first), first, factory.matrix, **how)
    wheels = factory.wheels(second)
    s3_endpoint.requests.clear()
    publish(S3Store(bucket.bucket, bucket._client), wheels, second, factory.matrix, **how)
    requests = asked(s3_endpoint, bucket.bucket)
    assert requests == documented()
    # The wheels and their indexes, and at most 40 writes for all that lies beside them.
    assert sum(requests.values()) <= 66 + 40
    assert sum(n for request, n in requests.items() if request.split()[0] in READS) <= 12
    lab.drop(bucket)


def test_each_variant_on_request_adds_its_own_writes_and_no_read(
    s3_endpoint: Endpoint, the_matrix: Matrix, tmp_path: Path
) -> None:
    (said,) = re.findall(r"Each variant on request adds (\d+) writes", DOCS.read_text())
    also = [cuda.variant for cuda in the_matrix.cudas if cuda.on_request]
    factory = with_libraries(Factory(tmp_path, the_matrix.of_commit(also)), tmp_path)
    lab = S3Lab(s3_endpoint, client_of(s3_endpoint.url))
    bucket = lab.copy(None)
    how = {"signer": Signer(Ed25519PrivateKey.generate()), "clock": clock}
    first, second = factory.commit(1), factory.commit(2)
    publish(bucket, factory.wheels(first), first, factory.matrix, **how)
    wheels = factory.wheels(second)
    s3_endpoint.requests.clear()
    publish(S3Store(bucket.bucket, bucket._client), wheels, second, factory.matrix, **how)
    more = asked(s3_endpoint, bucket.bucket)
    assert not documented() - more
    more -= documented()
    assert len(also) == 3
    assert sum(more.values()) == len(also) * int(said)
    assert not [request for request in more if request.split()[0] in READS]
    lab.drop(bucket)


def test_the_same_again_and_reindex_write_nothing(s3_endpoint: Endpoint, factory: Factory) -> None:
    lab = S3Lab(s3_endpoint, client_of(s3_endpoint.url))
    bucket = lab.copy(None)
    commit = factory.commit(1)
    publish(bucket, factory.wheels(commit), commit, factory.matrix, clock=clock)
    s3_endpoint.requests.clear()
    publish(bucket, factory.wheels(commit), commit, factory.matrix)
    reindex(bucket, factory.matrix, lambda step: None)
    assert {method for method, _ in s3_endpoint.requests} <= READS
    lab.drop(bucket)
