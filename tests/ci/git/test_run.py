"""Whoever runs git: their variables, their configuration, their git."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ci import git
from tests.ci.support.repository import commit, run


def test_another_users_repository_is_named_with_what_allows_it(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a repository to somebody else")
    sha = commit(repo, "one")
    repo = repo.rename(tmp_path / "a repository")
    os.chown(repo / ".git", 65534, 65534)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    with pytest.raises(git.GitError, match="belongs to another user") as caught:
        git.read_head(repo)
    subprocess.run(caught.value.do.partition(": ")[2], shell=True, check=True)
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


def test_a_git_that_cannot_be_run(
    repo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "git").write_text("no program")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(git.GitError, match=r"git cannot be run: .*Exec format"):
        git.read(repo, tag="v1.0")


def test_no_git_on_path(repo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(git.GitError, match="git is not on PATH"):
        git.read(repo, tag="v1.0")
