"""Which wheels installers select on newer and free-threaded Pythons.

Real resolvers are given the Python's tags; nothing runs on it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging import tags
from packaging.utils import parse_wheel_filename

from ci.git import Commit
from ci.matrix import Matrix
from ci.names import abi3_wheel_name, release_tags, wheel_name
from ci.publish import publish
from ci.serve import running
from ci.store import FolderStore
from tests.ci.clients.conftest import UV, Ran, make_tool, run
from tests.ci.support.wheels import Factory

NEW = ["3.13", "3.14", "3.15"]
PLATFORMS = ["manylinux1_x86_64", "manylinux2014_x86_64", "linux_x86_64"]


@pytest.fixture(scope="module")
def commit(factory: Factory) -> Commit:
    return factory.commit(1)


@pytest.fixture(scope="module")
def index(
    factory: Factory, commit: Commit, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The index of a commit's default wheels."""
    store = FolderStore(tmp_path_factory.mktemp("pythons") / "bucket", durable=False)
    publish(store, factory.wheels(commit), commit, factory.matrix)
    with running(store) as base:
        yield f"{base}/{commit.sha}/cu121/"


def pip_download(index: str, tools: Path, tmp_path: Path, python: str, abi: str) -> Ran:
    tool = make_tool("pip", tools, tmp_path)
    where = ["--python-version", python, "--implementation", "cp", "--abi", abi]
    where += ["--platform", "manylinux1_x86_64", "--only-binary", ":all:", "--no-deps"]
    out = ["--dest", str(tmp_path / "out")]
    wanted = ["--index-url", index, "vllm==0.5.4"]
    return run([*tool.pip, "download", *where, *out, *wanted], tool.home)


@pytest.mark.parametrize("python", NEW)
def test_pip_takes_the_wheel_for_a_new_python(
    index: str, tools: Path, tmp_path: Path, python: str, the_matrix: Matrix
) -> None:
    ran = pip_download(index, tools, tmp_path, python, "abi3")
    assert ran.code == 0, ran.text
    (wheel,) = (tmp_path / "out").iterdir()
    assert wheel.name == abi3_wheel_name(the_matrix, "0.5.4")


@pytest.mark.parametrize(("python", "abi"), [("3.13", "cp313t"), ("3.14", "cp314t")])
def test_pip_finds_no_wheel_for_a_free_threaded_python(
    index: str, tools: Path, tmp_path: Path, python: str, abi: str
) -> None:
    ran = pip_download(index, tools, tmp_path, python, abi)
    assert ran.code != 0
    assert "No matching distribution found for vllm==0.5.4" in ran.text


@pytest.mark.parametrize("python", NEW)
def test_uv_takes_the_wheel_for_a_new_python(
    index: str, commit: Commit, tmp_path: Path, python: str
) -> None:
    (tmp_path / "home").mkdir()
    command = [str(UV), "--no-config", "pip", "install", "--python", sys.executable, "--no-deps"]
    command += ["--python-version", python, "--python-platform", "x86_64-manylinux_2_28"]
    command += ["--only-binary", ":all:", "--target", str(tmp_path / "target")]
    ran = run([*command, "--index-url", index, "vllm==0.5.4"], tmp_path / "home")
    assert ran.code == 0, ran.text
    (wheel,) = (tmp_path / "target").glob("vllm-*.dist-info/WHEEL")
    assert "Tag: cp38-abi3-manylinux1_x86_64\n" in wheel.read_text()


def test_no_wheel_of_ours_fits_a_python_without_the_gil(the_matrix: Matrix) -> None:
    """By the tags that such an interpreter says of itself; with the GIL one does."""
    (platform, _) = the_matrix.platforms
    names = [wheel_name("0.5.4", *tag.split("-")) for tag in release_tags(the_matrix, platform)]
    ours = {tag for name in names for tag in parse_wheel_filename(name)[3]}
    for minor in (13, 14):
        with_gil = tags.cpython_tags((3, minor), [f"cp3{minor}"], PLATFORMS)
        without = tags.cpython_tags((3, minor), [f"cp3{minor}t"], PLATFORMS)
        generic = set(tags.compatible_tags((3, minor), f"cp3{minor}", PLATFORMS))
        assert {str(tag) for tag in ours & set(with_gil)} == {"cp38-abi3-manylinux1_x86_64"}
        assert not ours & (set(without) | generic)
