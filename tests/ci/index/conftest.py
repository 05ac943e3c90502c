"""A unit and its manifest, without wheels."""

from __future__ import annotations

import hashlib

import pytest

from ci import versions
from ci.index.manifest import File, Manifest, Unit, of_matrix
from ci.matrix import Matrix
from ci.names import abi3_wheel_name


def make_unit(matrix: Matrix, number: int = 7) -> Unit:
    commit = hashlib.sha1(str(number).encode()).hexdigest()
    files = [
        File(
            name=abi3_wheel_name(matrix, version),
            version=version,
            variant=cuda.variant,
            tags=("cp38-abi3-manylinux1_x86_64",),
            requires_python=">=3.8",
            sha256=hashlib.sha256(f"{commit}{version}".encode()).hexdigest(),
            size=12_345_678,
            metadata_sha256=hashlib.sha256(version.encode()).hexdigest(),
            native_digest="sha256:" + "ab" * 32,
            reused_from=None,
        )
        for cuda in matrix.cudas
        for version in (
            versions.public(matrix.version, cuda.local),
            versions.development(matrix.version, number, commit, cuda.local),
        )
    ]
    return Unit(
        commit=commit,
        number=number,
        time="2026-11-05T10:00:00Z",
        version=matrix.version,
        release=False,
        published="2026-11-05T12:00:00Z",
        files=tuple(sorted(files, key=lambda file: file.name)),
    )


@pytest.fixture(scope="session")
def unit(the_matrix: Matrix) -> Unit:
    return make_unit(the_matrix)


@pytest.fixture(scope="session")
def manifest(unit: Unit, the_matrix: Matrix) -> Manifest:
    return of_matrix(unit, the_matrix)
