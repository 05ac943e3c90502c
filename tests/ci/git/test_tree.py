"""The working tree beside its commit."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ci import git
from tests.ci.support.repository import ENV, commit, run
from tests.ci.support.toolchain import ROOT


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


def test_a_file_that_only_this_clone_ignores_is_new(repo: Path) -> None:
    commit(repo, "one")
    (repo / ".git/info").mkdir(exist_ok=True)
    (repo / ".git/info/exclude").write_text("*.cpp\n")
    (repo / "evil.cpp").write_text("int evil;\n")
    assert git.read_head(repo).changes == ("new: evil.cpp",)


@pytest.mark.parametrize("kind", ["folder", "fifo", "link"])
def test_another_kind_of_file_is_a_change_and_is_not_read(repo: Path, kind: str) -> None:
    path = repo / "a"
    path.write_text("1\n")
    run(repo, "add", ".")
    commit(repo, "one")
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        (repo.parent / "same").write_text("1\n")
        path.symlink_to(repo.parent / "same")
    assert git.read_head(repo).changes[0] == "modified: a"


def test_a_shallow_clone_still_knows_its_commit(repo: Path, tmp_path: Path) -> None:
    """Which is all that a source build says of it."""
    commit(repo, "one")
    sha = commit(repo, "two")
    shallow = tmp_path / "shallow"
    run(tmp_path, "clone", "-q", "--depth=1", repo.as_uri(), str(shallow))
    assert git.read_head(shallow) == git.Head(sha, 1700000000, ())


def test_bytes_are_compared_and_not_gits_idea_of_equality(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clone with converted line endings is clean to git, and other bytes would be compiled."""
    (repo / "a.cpp").write_bytes(b"int a;\n")
    run(repo, "add", ".")
    sha = commit(repo, "one")
    clone = tmp_path / "a clone"
    run(tmp_path, "clone", "-q", "-c", "core.autocrlf=true", str(repo), str(clone))
    assert run(clone, "status", "--porcelain") == ""
    assert (clone / "a.cpp").read_bytes() == b"int a;\r\n"
    with pytest.raises(git.DirtyTree, match=r"line endings: a\.cpp") as caught:
        git.read(clone, tag="v1.0")
    assert git.read_head(clone).dirty
    # What it says to do does it, once the repository says how it is to be checked out.
    (repo / ".gitattributes").write_text("* text=auto eol=lf\n")
    run(repo, "add", ".")
    commit(repo, "two")
    run(clone, "pull", "-q")
    command = caught.value.do.partition("lost: ")[2]
    subprocess.run(command, shell=True, check=True, env=ENV)
    assert (clone / "a.cpp").read_bytes() == b"int a;\n"
    assert git.read(clone, tag="v1.0").number == 2
    # Our own clones never convert.
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    (tmp_path / "gitconfig").write_text("[core]\n  autocrlf = true\n")
    git.clone(repo, tmp_path / "ours", sha)
    assert (tmp_path / "ours" / "a.cpp").read_bytes() == b"int a;\n"
    git.export(repo, sha, tmp_path / "exported")
    assert (tmp_path / "exported" / "a.cpp").read_bytes() == b"int a;\n"


def test_this_repository_says_how_it_is_to_be_checked_out(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    run(tmp_path, "clone", "-q", "-c", "core.autocrlf=true", str(ROOT), str(clone))
    assert git.read_head(clone).changes == ()
    converted = [path for path in (clone / "ci").rglob("*.py") if b"\r" in path.read_bytes()]
    assert converted == []
    assert (clone / "cmake" / "nvrtcc.py").read_bytes().startswith(b"#!/usr/bin/env python3\n")


def test_links_and_submodules(repo: Path, tmp_path: Path) -> None:
    (repo / "to").symlink_to("nowhere")
    run(tmp_path, "init", "-q", str(tmp_path / "other"))
    commit(tmp_path / "other", "one")
    allowed = ("-c", "protocol.file.allow=always")
    run(repo, *allowed, "submodule", "add", "-q", str(tmp_path / "other"), "sub")
    run(repo, "add", ".")
    commit(repo, "one")
    assert git.read_head(repo).changes == ()
    (repo / "to").unlink()
    (repo / "to").symlink_to("elsewhere")
    assert git.read_head(repo).changes == ("modified: to",)


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
