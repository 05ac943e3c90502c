"""Commits: hash, number, time, message, and how they landed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ci import git
from tests.ci.support.repository import ENV, commit, run


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


def test_a_shallow_clone_is_refused_with_the_command_that_deepens_it(
    repo: Path, tmp_path: Path
) -> None:
    commit(repo, "one")
    commit(repo, "two")
    shallow = tmp_path / "a shallow one"
    run(tmp_path, "clone", "-q", "--depth=1", repo.as_uri(), str(shallow))
    with pytest.raises(git.ShallowClone, match="fetch --unshallow") as caught:
        git.read(shallow, tag="v1.0")
    # The command it gives does deepen it.
    command = caught.value.do.partition(": ")[2]
    subprocess.run(command, shell=True, env=ENV, check=True)
    assert git.read(shallow, tag="v1.0").number == 2
