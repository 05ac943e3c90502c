"""A private copy of an index: pip installs from it, and it takes no file for another."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from ci.publish import publish
from ci.serve import running
from ci.store import FolderStore
from tests.ci.clients.conftest import make_tool, plain_hosting
from tests.ci.conftest import factory, the_matrix  # noqa: F401 (fixtures)

PATH = Path(__file__).parents[2] / "examples" / "mirror.py"


@pytest.fixture(scope="module")
def mirror():
    spec = importlib.util.spec_from_file_location("mirror", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.mirror


@pytest.fixture
def store(tmp_path, factory):  # noqa: F811 (the fixture)
    store = FolderStore(tmp_path / "bucket", durable=False)
    for number in (1, 2):
        commit = factory.commit(number)
        publish(store, factory.wheels(commit), commit, factory.matrix)
    return store


def test_pip_installs_from_the_copy(mirror, store, tmp_path, factory):  # noqa: F811
    folder = tmp_path / "copy"
    with running(store) as base:
        names = mirror(f"{base}/whl/nightly/cu121/vllm/", folder)
        before = {path.name: path.stat().st_mtime_ns for path in folder.glob("vllm/*.whl")}
        assert mirror(f"{base}/whl/nightly/cu121/vllm/", folder) == names
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob("vllm/*.whl")}
    assert sorted(names) == sorted(before)
    assert after == before  # nothing was fetched again
    tool = make_tool("uv", tmp_path / "tools", tmp_path)
    environment = tool.environment(tmp_path / "environment")
    with plain_hosting(folder) as url:
        environment.install("--pre", "--index-url", url, "vllm")
    assert environment.vllm()[1] == factory.commit(2).sha


def test_another_file_is_refused(mirror, store, tmp_path):
    with running(store) as base:
        index = f"{base}/whl/nightly/cu121/vllm/"
        names = mirror(index, tmp_path / "good")
        (victim,) = Path(store.name).rglob(names[0])
        victim.write_bytes(b"another wheel")
        with pytest.raises(SystemExit, match="is not what the index says"):
            mirror(index, tmp_path / "copy")
    assert not list((tmp_path / "copy").rglob(names[0]))
