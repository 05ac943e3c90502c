"""ci.git on real repositories made for the purpose."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ci import git
from tests.ci.support.repository import ENV, commit, run
from tests.ci.support.toolchain import ROOT


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    path = tmp_path / "repo"
    path.mkdir()
    run(path, "init", "-q", "-b", "main")
    return path


def test_a_commit_has_hash_number_and_committer_time(repo: Path) -> None:
    sha = commit(repo, "one")
    assert git.read(repo, tag="v1.0") == git.Commit(
        sha, number=1, time=1700000000, dirty=False, subject="one"
    )


def test_a_commit_has_a_subject_a_parent_and_what_it_changed(repo: Path) -> None:
    (repo / "kept").write_text("1\n")
    (repo / "gone").write_text("1\n")
    run(repo, "add", ".")
    first = commit(repo, "one")
    (repo / "gone").unlink()
    (repo / "new file").write_text("2\n")
    run(repo, "add", "--all")
    commit(repo, "A subject\nin two lines\n\nparent of nothing\n\nA body.")
    found = git.read(repo, tag="v1.0")
    assert (found.subject, found.parent) == ("A subject in two lines", first)
    assert found.changed == ("gone", "new file")


@pytest.mark.parametrize(
    ("encoding", "message", "subject"),
    [
        ("ISO-8859-1", b"caf\xe9", "café"),
        ("", b"caf\xe9", "caf\ufffd"),
        ("no-such", "café".encode(), "café"),
        ("idna", "café".encode(), "café"),
    ],
)
def test_a_message_is_text_whatever_its_encoding(
    repo: Path, encoding: str, message: bytes, subject: str
) -> None:
    commit(repo, "one")
    (repo.parent / "message").write_bytes(message)
    # git writes the header for any name that it is told, and leaves the bytes as they are.
    run(repo, "-c", f"i18n.commitEncoding={encoding or 'binary'}", "commit", "-q", "--allow-empty",
        "-F", str(repo.parent / "message"))  # fmt: skip
    if not encoding:
        whole = subprocess.check_output(["git", "-C", str(repo), "cat-file", "commit", "HEAD"])
        plain = whole.replace(b"encoding binary\n", b"")
        hash_object = ["git", "-C", str(repo), "hash-object", "-t", "commit", "-w", "--stdin"]
        sha = subprocess.check_output(hash_object, input=plain).decode().strip()
        run(repo, "reset", "-q", "--hard", sha)
    assert git.read(repo, tag="v1.0").subject == subject


def test_a_commit_of_a_branch_landed_with_its_merge(repo: Path) -> None:
    first = commit(repo, "one")
    run(repo, "checkout", "-q", "-b", "side")
    side = commit(repo, "a")
    run(repo, "checkout", "-q", "-b", "never")
    never = commit(repo, "b")
    run(repo, "checkout", "-q", "main")
    run(repo, "merge", "-q", "--no-ff", "-m", "merge", "side")
    merge = run(repo, "rev-parse", "HEAD")
    commit(repo, "two")
    assert git.landed(repo, "side") == git.Landed(side, 1700000000, merge)
    assert git.landed(repo, first[:8]) == git.Landed(first, 1700000000, first)
    assert git.landed(repo, "never") == git.Landed(never, 1700000000, None)
    assert git.landed(repo, "0" * 40) is None
    assert git.landed(repo.parent, "main") is None


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


def test_a_shallow_clone_still_knows_its_commit(repo: Path, tmp_path: Path) -> None:
    """Which is all that a source build says of it."""
    commit(repo, "one")
    sha = commit(repo, "two")
    shallow = tmp_path / "shallow"
    run(tmp_path, "clone", "-q", "--depth=1", repo.as_uri(), str(shallow))
    assert git.read_head(shallow) == git.Head(sha, 1700000000, ())


def test_another_users_repository_is_named_with_what_allows_it(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a repository to somebody else")
    sha = commit(repo, "one")
    os.chown(repo / ".git", 65534, 65534)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    with pytest.raises(git.GitError, match="belongs to another user") as caught:
        git.read_head(repo)
    subprocess.run(caught.value.do.split(": ", 1)[1].split(), check=True)
    assert git.read_head(repo).sha == sha


def test_the_callers_variables_lead_to_no_other_repository(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a hook of git has them, or somebody who works on two trees."""
    sha = commit(repo, "one")
    other = tmp_path / "other"
    run(tmp_path, "init", "-q", str(other))
    commit(other, "another")
    for name, value in {
        "GIT_DIR": other / ".git",
        "GIT_WORK_TREE": other,
        "GIT_INDEX_FILE": other / ".git" / "index",
        "GIT_OBJECT_DIRECTORY": other / ".git" / "objects",
        "GIT_CEILING_DIRECTORIES": repo,
        "GIT_NAMESPACE": "x",
    }.items():
        monkeypatch.setenv(name, str(value))
    assert git.read(repo, tag="v1.0") == git.Commit(sha, 1, 1700000000, False, subject="one")
    git.clone(repo, tmp_path / "clone", sha)
    assert git.read(tmp_path / "clone", tag="v1.0").sha == sha


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


CONFIGURATIONS = {
    "a signature in every log": "[log]\n  showSignature = true\n",
    "an order and colours": "[tag]\n  sort = -refname\n[color]\n  ui = always\n",
    "files that only this person ignores": "[core]\n  excludesFile = {folder}/ignored\n",
    "a monitor": "[core]\n  fsmonitor = {folder}/monitor\n",
    "no untracked files": "[status]\n  showUntrackedFiles = no\n[core]\n  fileMode = false\n",
    "names in octal, a pager": "[core]\n  quotePath = true\n  pager = false\n",
}


@pytest.mark.parametrize("text", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_no_user_configuration_changes_the_result(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    key = tmp_path / "key"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
    signing = ["-c", "gpg.format=ssh", "-c", f"user.signingKey={key}", "-c", "commit.gpgSign=true"]
    if shutil.which("ssh-keygen"):
        subprocess.run(command, check=True)
    else:
        signing = []
    run(repo, *signing, "commit", "-q", "--allow-empty", "-m", "signed")
    for tag in ("v1", "v2"):
        run(repo, "tag", tag)
    (repo / "ñew.cpp").touch()
    (tmp_path / "ignored").write_text("*.cpp\n")
    (tmp_path / "monitor").write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\nexit 1\n")
    (tmp_path / "monitor").chmod(0o755)
    expected = git.read(repo, tag="v1.0", allow_dirty=True), git.read_head(repo)
    config = tmp_path / "gitconfig"
    config.write_text(text.format(folder=tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    assert (git.read(repo, tag="v1.0", allow_dirty=True), git.read_head(repo)) == expected
    assert expected[1].changes == ("new: ñew.cpp",)
    assert git.tags_here(repo) == ["v1", "v2"]
    assert not (tmp_path / "asked").exists()


def test_bytes_are_compared_and_not_gits_idea_of_equality(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clone with converted line endings is clean to git, and other bytes would be compiled."""
    (repo / "a.cpp").write_bytes(b"int a;\n")
    run(repo, "add", ".")
    sha = commit(repo, "one")
    clone = tmp_path / "clone"
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


def test_a_git_that_cannot_be_run(
    repo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "git").write_text("no program")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(git.GitError, match=r"git cannot be run: .*Exec format"):
        git.read(repo, tag="v1.0")


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
