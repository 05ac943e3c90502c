"""The commands that work on a bucket, as a person types them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ci.__main__ import main
from ci.git import Commit
from ci.publish import publish
from ci.store import FolderStore
from tests.ci.support import repository
from tests.ci.support.buckets import contents, nightly_of
from tests.ci.support.wheels import Factory

Run = Callable[..., str]


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "bucket", durable=False)


LAST_WEEK = datetime.now(timezone.utc) - timedelta(days=7)


@pytest.fixture
def commits(store: FolderStore, factory: Factory) -> list[Commit]:
    found = [factory.commit(number) for number in (1, 2, 3)]
    for commit in found:
        wheels = factory.wheels(commit)
        publish(store, wheels, commit, factory.matrix, clock=lambda: LAST_WEEK)
    return found


@pytest.fixture
def run(store: FolderStore, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command on the bucket and returns what it printed; it has to end with `code`."""

    def command(*arguments: str, code: int = 0) -> str:
        capsys.readouterr()
        assert main([*arguments, "--bucket", store.name]) == code
        printed = capsys.readouterr()
        return printed.err if code else printed.out

    return command


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one commit, which is the current folder."""
    repo = tmp_path / "repo"
    repo.mkdir()
    repository.run(repo, "init", "--quiet")
    (repo / ".gitignore").write_text("/wheelhouse/\n")
    repository.run(repo, "add", ".gitignore")
    repository.commit(repo, "first")
    monkeypatch.chdir(repo)
    return repo


def put_wheels(repo: Path, factory: Factory) -> Commit:
    sha = repository.run(repo, "rev-parse", "HEAD")
    number = int(repository.run(repo, "rev-list", "--count", "--first-parent", "HEAD"))
    time = int(repository.run(repo, "show", "-s", "--format=%ct"))
    commit = Commit(sha, number, time, dirty=False)
    (repo / "wheelhouse").mkdir()
    for wheel in factory.wheels(commit):
        (repo / "wheelhouse" / wheel.path.name).write_bytes(wheel.path.read_bytes())
    return commit


def test_publish_takes_the_wheels_of_the_current_commit(
    run: Run, store: FolderStore, checkout: Path, factory: Factory
) -> None:
    commit = put_wheels(checkout, factory)
    (checkout / "wheelhouse/vllm-0.1-py3-none-any.whl").write_bytes(b"of another day")
    assert "and is the nightly" in run("publish")
    assert nightly_of(store) == commit.sha
    again = json.loads(run("publish", "--json"))
    assert (again["created"], again["pages"], again["is_nightly"]) == ([], [], True)


def test_publish_says_which_wheels_are_missing(
    run: Run, store: FolderStore, checkout: Path, factory: Factory
) -> None:
    put_wheels(checkout, factory)
    (missing,) = (checkout / "wheelhouse").glob("vllm-0.5.4+cu118-*")
    missing.unlink()
    said = run("publish", code=1)
    assert f"missing: {missing.name}" in said
    assert "what to do" in said
    assert nightly_of(store) is None


def test_an_incomplete_set_is_recorded_in_the_bucket(
    run: Run, store: FolderStore, checkout: Path, factory: Factory
) -> None:
    commit = put_wheels(checkout, factory)
    (checkout / "wheelhouse").rename(checkout / "cells")
    (checkout / ".gitignore").write_text("/wheelhouse/\n/cells/\n")
    repository.run(checkout, "add", "--all")
    other = repository.commit(checkout, "another commit")
    assert "pending" in run("announce")
    said = run("publish", "--cells", "cells", code=1)
    assert f"+g{other[:9]}" in said  # what is asked for, not what is there: that is `commit`'s
    assert commit.sha[:9] not in said
    assert json.loads(run("status", other, "--json"))["state"] == "failed"
    assert "failed: see the log" in run("announce", "--failed", "see the log")
    assert json.loads(run("status", other, "--json"))["reason"] == "see the log"


def test_status_of_a_bucket_and_of_a_commit(run: Run, commits: list[Commit]) -> None:
    said = run("status")
    assert f"nightly    {commits[2].sha}" in said
    assert "nightlies  3 listed" in said
    bucket = json.loads(run("status", "--json"))
    assert (bucket["nightly"], bucket["problems"]) == (commits[2].sha, [])
    unit = json.loads(run("status", commits[0].sha, "--json"))
    assert (unit["state"], unit["nightly"], unit["listed"]) == ("complete", False, True)
    assert len(unit["files"]) == 6
    assert "names neither a commit nor a release" in run("status", "HEAD", code=1)
    assert "is not published" in run("status", "0" * 40, code=1)


def test_status_ends_with_an_error_if_something_is_missing(
    run: Run, store: FolderStore, commits: list[Commit]
) -> None:
    key = f"{commits[0].sha}/vllm-0.5.4-cp38-abi3-manylinux1_x86_64.whl"
    store.delete(key)
    assert main(["status", commits[0].sha, "--bucket", store.name]) == 1
    assert main(["status", "--bucket", store.name]) == 0


def test_yank_promote_and_back(run: Run, store: FolderStore, commits: list[Commit]) -> None:
    assert f"the nightly is {commits[1].sha}" in run("yank", commits[2].sha, "--reason", "bad")
    assert "is not yanked" in run("unyank", commits[2].sha)
    assert f"the nightly is {commits[0].sha}" in run("promote", commits[0].sha)
    said = json.loads(run("promote", commits[2].sha, "--json"))
    assert (said["nightly"], said["changed"]) == (commits[2].sha, True)
    assert nightly_of(store) == commits[2].sha
    assert "not one line" in run("yank", commits[0].sha, "--reason", "a\nb", code=1)


def test_prune_is_a_dry_run_without_yes(
    run: Run, store: FolderStore, commits: list[Commit]
) -> None:
    before = contents(store)
    assert "--days is 0" in run("prune", "--days", "0", code=1)
    told = run("prune", "--keep", "1", "--days", "1")
    assert "2 of 3 commits" in told
    assert "--yes does it" in told
    assert contents(store) == before
    run("pin", commits[0].sha, "--reason", "a paper")
    done = json.loads(run("prune", "--keep", "1", "--days", "1", "--yes", "--json"))
    assert [c["unit"] for c in done if c["removed"]] == [commits[1].sha]
    assert not [key for key in contents(store) if key.startswith(f"{commits[1].sha}/vllm")]
    assert "no longer pinned" in run("pin", commits[0].sha, "--off")


def test_reindex_says_what_it_had_to_write(
    run: Run, store: FolderStore, commits: list[Commit]
) -> None:
    assert "0 differed from the records" in run("reindex")
    store.delete("index.html")
    assert json.loads(run("reindex", "--json"))["written"] == ["index.html"]


def test_an_invalid_bucket_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--bucket", "gs://elsewhere"]) == 1
    assert "is not a bucket" in capsys.readouterr().err


def test_a_result_in_json_is_all_that_stdout_holds(
    store: FolderStore, checkout: Path, factory: Factory
) -> None:
    put_wheels(checkout, factory)
    root = Path(__file__).parents[3]
    ended = subprocess.run(
        [sys.executable, "-m", "ci", "publish", "--json", "--bucket", store.name],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"},
    )
    assert json.loads(ended.stdout)["unit"]["release"] is False
