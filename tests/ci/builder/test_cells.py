"""A set of wheels from several machines: each builds a part in its clone, one publishes all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ci import git
from ci.matrix import Matrix
from ci.publish import publish
from ci.store import FolderStore
from ci.wheel import reader
from tests.ci.support.buckets import nightly_of
from tests.ci.support.clones import ci, clone, commit

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bucket(
    asked: list[Path], built: Path, whole: Matrix, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """One in which the commit is published, so that machines have nothing to compile."""
    folder = tmp_path_factory.mktemp("published") / "bucket"
    wheels = [reader.read(path) for path in asked]
    store = FolderStore(folder, durable=False)
    publish(store, wheels, git.read(built), whole.of_commit(["cu130"]))
    return folder


def test_cells_of_separate_clones_are_published_together_or_not_at_all(
    built: Path, small: Matrix, bucket: Path, tmp_path: Path
) -> None:
    """The next commit, with the commands of .github/workflows/nightly.yml."""
    earlier, origin = git.read(built), clone(built, tmp_path / "origin")
    with (origin / "python" / "vllm" / "__init__.py").open("a") as file:
        file.write("# Another line.\n")
    commit(origin)
    cells, store = tmp_path / "cells", FolderStore(tmp_path / "bucket", durable=False)
    publisher = clone(origin, tmp_path / "publisher")
    publishing = "publish", "--cells", str(cells), "--bucket", store.name
    for cuda in small.cudas:
        if cells.exists():  # one of two has delivered
            with pytest.raises(AssertionError, match=r"what to do: +build the missing variants"):
                ci(publisher, *publishing)
            assert nightly_of(store) is None
        machine = clone(origin, tmp_path / cuda.variant)
        ci(machine, "build", "--variant", cuda.variant, "--reuse", str(bucket))
        shutil.copytree(machine / "wheelhouse", cells / f"wheels-{cuda.variant}")
    assert "and is the nightly" in ci(publisher, *publishing)
    at = git.read(publisher)
    assert nightly_of(store) == at.sha
    manifest = json.loads((tmp_path / "bucket" / at.sha / "manifest.json").read_text())
    assert {file["reused_from"] for file in manifest["files"]} == {earlier.sha}


def test_a_release_of_cells_is_the_release_of_one_machine(
    built: Path, whole: Matrix, bucket: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    ci(built, "release", "--version", "0.4.0", "--reuse", str(bucket), "--out", str(alone))
    for cuda in whole.cudas:
        machine = clone(built, tmp_path / cuda.variant)
        cell = str(tmp_path / "cells" / cuda.variant)
        command = "release", "--version", "0.4.0", "--variant", cuda.variant, "--out", cell
        ci(machine, *command, "--reuse", str(bucket))
    together = tmp_path / "together"
    command = "release", "--version", "0.4.0", "--cells", str(tmp_path / "cells")
    published = tmp_path / "bucket"
    ci(built, *command, "--out", str(together), "--publish", str(published))
    assert contents_of(together) == contents_of(alone)
    files = set(contents_of(published / "releases/download/v0.4.0"))
    assert contents_of(together).keys() <= files
    index = (published / "whl" / "cu121" / "vllm" / "index.html").read_text()
    assert "vllm-0.4.0.tar.gz" in index


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".json"}
