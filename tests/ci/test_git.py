"""ci.git on real repositories made for the purpose."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ci import git
from tests.ci.support.repository import ENV, commit, run


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    path = tmp_path / "repo"
    path.mkdir()
    run(path, "init", "-q", "-b", "main")
    return path


def test_a_commit_has_hash_number_and_committer_time(repo: Path) -> None:
    sha = commit(repo, "one")
    assert git.read(repo, tag="v1.0") == git.Commit(sha, number=1, time=1700000000, dirty=False)


def test_numbers_start_at_the_tag(repo: Path) -> None:
    commit(repo, "one")
    run(repo, "tag", "v1.0")
    assert git.read(repo, tag="v1.0").number == 0
    commit(repo, "two")
    assert git.read(repo, tag="v1.0").number == 1
    assert git.read(repo, tag="v2.0").number == 2  # no such tag: from the root


def test_numbers_count_the_first_parent_only(repo: Path) -> None:
    commit(repo, "one")
    run(repo, "checkout", "-q", "-b", "side")
    for message in ("a", "b", "c"):
        commit(repo, message)
    run(repo, "checkout", "-q", "main")
    run(repo, "merge", "-q", "--no-ff", "-m", "merge", "side")
    assert git.read(repo, tag="v1.0").number == 2


@pytest.mark.parametrize("change", ["untracked", "modified", "staged", "deleted"])
def test_any_change_makes_the_tree_dirty(repo: Path, change: str) -> None:
    tracked = repo / "tracked.cpp"
    tracked.write_text("1\n")
    run(repo, "add", ".")
    found = commit(repo, "one")
    assert git.read(repo, tag="v1.0").sha == found
    if change == "untracked":
        (repo / "new.cpp").write_text("2\n")
    elif change == "deleted":
        tracked.unlink()
    else:
        tracked.write_text("2\n")
        if change == "staged":
            run(repo, "add", ".")
    with pytest.raises(git.DirtyTree, match=r"\.cpp"):
        git.read(repo, tag="v1.0")
    allowed = git.read(repo, tag="v1.0", allow_dirty=True)
    assert (allowed.sha, allowed.dirty) == (found, True)


def test_ignored_files_do_not_count(repo: Path) -> None:
    (repo / ".gitignore").write_text("*.o\n")
    run(repo, "add", ".")
    commit(repo, "one")
    (repo / "x.o").write_text("")
    assert not git.read(repo, tag="v1.0").dirty


def test_a_shallow_clone_is_refused_with_the_command_that_deepens_it(
    repo: Path, tmp_path: Path
) -> None:
    commit(repo, "one")
    commit(repo, "two")
    shallow = tmp_path / "shallow"
    run(tmp_path, "clone", "-q", "--depth=1", repo.as_uri(), str(shallow))
    with pytest.raises(git.ShallowClone, match="fetch --unshallow") as caught:
        git.read(shallow, tag="v1.0")
    # The command it gives does deepen it.
    subprocess.run(caught.value.do.split(": ", 1)[1].split(), env=ENV, check=True)
    assert git.read(shallow, tag="v1.0").number == 2


def test_a_folder_that_is_no_checkout(tmp_path: Path) -> None:
    with pytest.raises(git.GitError, match="is not a git checkout"):
        git.read(tmp_path, tag="v1.0")


def test_a_folder_inside_another_checkout_is_not_that_checkout(repo: Path) -> None:
    commit(repo, "one")
    inside = repo / "unpacked-sdist"
    inside.mkdir()
    with pytest.raises(git.GitError, match="is not a git checkout"):
        git.read(inside, tag="v1.0")


def test_a_repository_without_a_commit(repo: Path) -> None:
    with pytest.raises(git.GitError, match="has no commit yet"):
        git.read(repo, tag="v1.0")


def test_no_git_on_path(repo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(git.GitError, match="git is not on PATH"):
        git.read(repo, tag="v1.0")
