"""What a release is called, its sdist and its checksums. (test_build.py makes a whole one.)"""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from ci import builder, matrix, release
from ci.git import Commit
from ci.matrix import Matrix
from ci.publish import plan
from ci.release import sdist, sums
from ci.release.errors import ReleaseError
from tests.ci.support.repository import commit, run


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    path = tmp_path / "repo"
    path.mkdir()
    run(path, "init", "-q", "-b", "main")
    commit(path, "one")
    return path


def test_a_version_needs_no_tag(repo: Path) -> None:
    release.check_version(repo, "0.4.0")


def test_a_tag_that_agrees(repo: Path) -> None:
    for tag in ("v0.4.0", "v0.4.1", "vendored", "other"):
        run(repo, "tag", tag)
    release.check_version(repo, "0.4.0")


def test_a_tag_that_disagrees_stops_it(repo: Path) -> None:
    run(repo, "tag", "v0.4.1")
    with pytest.raises(ReleaseError, match=r"tagged v0\.4\.1, not v0\.4\.0"):
        release.check_version(repo, "0.4.0")


@pytest.mark.parametrize("version", ["0.4.0+cu118", "0.4.0.dev1", "v0.4.0", "0.04.0", "x"])
def test_an_invalid_release_version(repo: Path, version: str) -> None:
    with pytest.raises(ReleaseError, match=r"use a version such as 0\.5\.4"):
        release.check_version(repo, version)


def test_the_version_of_the_tag(repo: Path) -> None:
    with pytest.raises(ReleaseError, match="this commit has no tag"):
        release.version_of_tag(repo)
    run(repo, "tag", "v0.4.0")
    assert release.version_of_tag(repo) == "0.4.0"
    run(repo, "tag", "v0.4.1")
    with pytest.raises(ReleaseError, match=r"the tags v0\.4\.0, v0\.4\.1"):
        release.version_of_tag(repo)


def test_the_wheels_are_those_that_the_publisher_insists_on(the_matrix: Matrix) -> None:
    released = release.matrix_of(the_matrix, "0.4.0")
    labels = {
        f"vllm-{label.version}-{label.tag}.whl"
        for cuda in released.cudas
        for platform in released.platforms_of(cuda)
        for label in builder.release_labels(released, cuda, platform)
    }
    assert labels == set(plan.release_wheels(released))
    assert len(labels) == 34
    assert "vllm-0.4.0-cp38-abi3-manylinux2014_aarch64.whl" in labels
    assert "vllm-0.4.0+cu130-cp38-abi3-manylinux2014_aarch64.whl" in labels
    assert "vllm-0.4.0+cu118-cp310-cp310-manylinux1_x86_64.whl" in labels


def test_an_sdist_has_the_same_bits_each_time_and_any_reader_reads_it() -> None:
    files = {"b.py": b"x = 1\n", "a/tool.py": b"#!/usr/bin/env python3\n", "PKG-INFO": b""}
    data = sdist.pack("vllm-0.4.0", files, 1_700_000_000)
    assert data == sdist.pack("vllm-0.4.0", dict(reversed(list(files.items()))), 1_700_000_000)
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as archive:
        found = {info.name: (info.mode, info.mtime, info.uid, info.uname) for info in archive}
    assert found == {
        "vllm-0.4.0/PKG-INFO": (0o644, 1_700_000_000, 0, ""),
        "vllm-0.4.0/a/tool.py": (0o755, 1_700_000_000, 0, ""),
        "vllm-0.4.0/b.py": (0o644, 1_700_000_000, 0, ""),
    }
    assert list(found) == sorted(found)


def test_an_sdist_builds_wheels_of_its_own_version(the_matrix: Matrix, tmp_path: Path) -> None:
    """Of this tree, released as another version; unpacked and built again."""
    root = Path(__file__).parents[3]
    released = release.matrix_of(the_matrix, "9.8.7")
    at = Commit("a" * 40, 1, 1_700_000_000, dirty=False)
    path = sdist.build(root, tmp_path, released, at)
    assert path.name == "vllm-9.8.7.tar.gz"
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path)
    unpacked = tmp_path / "vllm-9.8.7"
    assert "\nVersion: 9.8.7\n" in (unpacked / "PKG-INFO").read_text()
    again = matrix.load(unpacked / "ci" / "matrix.toml")
    assert again == released
    hook = f"prepare_metadata_for_build_wheel({str(tmp_path)!r})"
    code = f"import vllm_backend as b; print(b.{hook})"
    environ = {**os.environ, "PYTHONPATH": "backend/pep517", "VLLM_TARGET_DEVICE": "empty"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=unpacked, env=environ, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "vllm-9.8.7.dist-info", done.stderr


def test_sha256sum_checks_the_listing(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("b+c.whl", "a.whl")]
    for path in paths:
        path.write_text(path.name)
    sums.write(tmp_path / "SHA256SUMS", paths)
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout == "a.whl: OK\nb+c.whl: OK\n"
