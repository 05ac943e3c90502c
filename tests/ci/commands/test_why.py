"""``python -m ci why`` in a clone: a commit with wheels, without, of a branch, of nobody."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

from ci import git
from ci.__main__ import main
from ci.publish import fail, publish
from ci.store import FolderStore
from tests.ci.support.repository import commit, run
from tests.ci.support.wheels import Factory


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "repo"
    path.mkdir()
    run(path, "init", "-q", "-b", "main")
    monkeypatch.chdir(path)
    return path


def why(repo: Path, *arguments: str) -> tuple[int, str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = main(["why", "--bucket", str(repo.parent / "bucket"), *arguments])
    return code, out.getvalue()


def test_it_says_where_the_wheels_are_or_why_there_are_none(repo: Path, factory: Factory) -> None:
    store = FolderStore(repo.parent / "bucket", durable=False)
    commit(repo, "Say hello")
    first = git.read(repo)
    publish(store, factory.wheels(first), first, factory.matrix)
    run(repo, "checkout", "-q", "-b", "side")
    side = commit(repo, "On a branch")
    run(repo, "checkout", "-q", "main")
    run(repo, "merge", "-q", "--no-ff", "-m", "Merge the branch", "side")
    merged = git.read(repo)
    publish(store, factory.wheels(merged), merged, factory.matrix)
    commit(repo, "Break the build")
    broken = git.read(repo)
    fail(store, broken, "nvrtc: out of memory")
    commit(repo, "Not built")

    code, said = why(repo, first.sha[:10], "--base", "http://127.0.0.1:8000")
    assert code == 0
    assert said.startswith("Say hello\n")
    name = "vllm-0.5.4+cu118-cp38-abi3-manylinux1_x86_64.whl"
    assert f"\n  http://127.0.0.1:8000/{first.sha}/{name}\n" in said

    code, said = why(repo, "HEAD^")
    assert code == 1
    assert "Break the build" in said
    assert "has no wheels: nvrtc: out of memory" in said
    assert f"near: {merged.sha} (number {merged.number}" in said
    assert "Merge the branch" in said

    code, said = why(repo, "HEAD")
    assert code == 1
    assert "was started here" in said
    assert f"near: {merged.sha}" in said

    code, said = why(repo, "side")
    assert code == 1
    assert f"No build of commit {side}" in said
    assert f"merged by {merged.sha}, whose wheels contain it:\nMerge the branch\n" in said

    code, said = why(repo, "f" * 40)
    assert (code, "was started here" in said) == (1, True)
    code, said = why(repo, "nothing")
    assert (code, "is not a commit in this clone" in said) == (1, True)
