"""Compares the working tree with the commit that is checked out, byte by byte.

git itself ignores line endings that it converted.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ci.git.run import GitError, ask, typed

SHOWN = 10  # changed files that an error lists
SYMLINK, SUBMODULE = "120000", "160000"


class NoCheckout(GitError):
    """The folder is not the root of a checkout; it may be an unpacked sdist."""


class DirtyTree(GitError):
    """Files differ from the commit that the wheels would be named after."""


class ChangedTree(GitError):
    """The tree was changed while wheels were built of it."""


@dataclass(frozen=True)
class Head:
    """The commit that is checked out, and the files that differ from it."""

    sha: str  # 40 hex digits
    time: int  # of the committer, in seconds since 1970
    changes: tuple[str, ...]  # "modified: ci/names.py"

    @property
    def dirty(self) -> bool:
        return bool(self.changes)


def read_head(repo: Path) -> Head:
    """What is checked out in `repo`, which may be a shallow clone. Raises GitError."""
    check_is_checkout(repo)
    no_commit = GitError(f"{repo} has no commit yet", do="commit something first: git commit")
    sha = ask(repo, "rev-parse", "--verify", "--quiet", "HEAD^{commit}", fails=no_commit)
    time, _ = ask(repo, "rev-list", "--timestamp", "--max-count=1", sha).split()
    return Head(sha, int(time), tuple(_changes(repo, sha)))


def require_unchanged(repo: Path, before: Head) -> None:
    """Raises ChangedTree if `repo` has another commit or other changes checked out than before."""
    now = read_head(repo)
    if now == before:
        return
    changes = sorted(set(before.changes) ^ set(now.changes))
    what = ", ".join(changes[:SHOWN]) or f"{before.sha[:12]} was checked out, now {now.sha[:12]} is"
    raise ChangedTree(
        f"{repo} was changed while it was built: {what}",
        means="what was compiled may be of both trees, so no wheel was written",
        do="build again, in a clone or worktree that nothing else changes",
    )


def working_files(repo: Path) -> list[str]:
    """Every file of the tree, committed or not, except those that its .gitignore names."""
    # Not those that .git/info/exclude names, for this clone alone.
    options = ("-z", "--cached", "--others", "--exclude-per-directory=.gitignore")
    names = sorted(set(filter(None, ask(repo, "ls-files", *options).split("\0"))))
    return [name for name in names if os.path.lexists(repo / name)]


def blob_id(data: bytes) -> str:
    """The blob id of a file with this content."""
    return hashlib.sha1(b"blob %d\0%s" % (len(data), data)).hexdigest()


def entries(repo: Path, commit: str) -> dict[str, tuple[str, str]]:
    """Name → mode and blob id of every file of a commit, and of every submodule."""
    listing = ask(repo, "ls-tree", "-r", "-z", "--full-tree", f"{commit}^{{tree}}")
    rows = (entry.split("\t", 1) for entry in listing.split("\0") if entry)
    return {name: (about.split()[0], about.split()[2]) for about, name in rows}


def check_is_checkout(repo: Path) -> None:
    not_a_checkout = NoCheckout(
        f"{repo} is not a git checkout",
        means="wheels are named after a commit, and there is none here",
        do="run this in a clone made by `git clone`",
    )
    root = ask(repo, "rev-parse", "--show-toplevel", fails=not_a_checkout)
    # A folder without .git inside another repository would be taken for that one's commit.
    if Path(root).resolve() != repo.resolve():
        raise not_a_checkout


def dirty_tree(repo: Path, head: Head) -> DirtyTree:
    changes = list(head.changes)
    if len(changes) > SHOWN:
        changes[SHOWN:] = [f"… and {len(changes) - SHOWN} more"]
    what = "the tree has uncommitted changes:\n    " + "\n    ".join(changes)
    means = f"a wheel of it would claim to be commit {head.sha[:12]}, and would not be"
    if all(change.startswith("line endings:") for change in head.changes):
        here = typed(repo)
        return DirtyTree(
            what,
            means=f"git converted line endings (core.autocrlf); {means}",
            do="check the files out again by .gitattributes; nothing else differs, so nothing "
            f"is lost: {here} rm -rq --cached . && {here} reset -q --hard",
        )
    return DirtyTree(
        what,
        means=means,
        do="commit or remove them, or pass --allow-dirty for wheels whose version says `dirty`",
    )


def _changes(repo: Path, commit: str) -> Iterator[str]:
    """The files of the tree that differ from `commit`, or are not in it."""
    committed = entries(repo, commit)
    for name, (mode, blob) in committed.items():
        path = repo / name
        if mode == SUBMODULE:
            continue
        # Reading another kind of file would fail, or wait for whoever writes to it.
        if not (path.is_symlink() if mode == SYMLINK else _is_file(path)):
            yield f"{'modified' if os.path.lexists(path) else 'deleted'}: {name}"
            continue
        data = _target(path) if mode == SYMLINK else path.read_bytes()
        if blob_id(data) != blob:
            kind = "line endings" if blob_id(data.replace(b"\r\n", b"\n")) == blob else "modified"
            yield f"{kind}: {name}"
    # A new source file would be compiled into the wheel.
    for name in working_files(repo):
        if name not in committed:
            yield f"new: {name}"


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _target(path: Path) -> bytes:
    return os.fsencode(os.readlink(path))  # noqa: PTH115  (Path.readlink came with Python 3.9)
