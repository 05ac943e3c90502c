"""The commit that a build is of, read from git: its hash, its number, its time."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ci import matrix
from ci.errors import CiError


class GitError(CiError):
    """git is missing, or this is no checkout that a build could be named after."""


class ShallowClone(GitError):
    """History is cut off, so commits cannot be numbered."""


class DirtyTree(GitError):
    """Files differ from the commit that the wheels would claim to be."""


@dataclass(frozen=True)
class Commit:
    """A commit as wheels are named after it."""

    sha: str  # 40 hex digits
    number: int  # commits along the first parent since the tag of ci/matrix.toml
    time: int  # of the committer, in seconds since 1970
    dirty: bool  # the tree holds something that the commit does not


def read(repo: Path, *, allow_dirty: bool = False, tag: Optional[str] = None) -> Commit:
    """The commit checked out in `repo`.

    tag: where numbering starts; by default the one in ci/matrix.toml. Where the repository has no
    such tag, commits are numbered from the root.
    Raises GitError (no git, no checkout, no commit), ShallowClone and, unless `allow_dirty`,
    DirtyTree.
    """
    _check_is_checkout(repo)
    sha = ask(repo, "rev-parse", "--verify", "--quiet", "HEAD^{commit}", fails=_no_commit(repo))
    if ask(repo, "rev-parse", "--is-shallow-repository") == "true":
        raise ShallowClone(
            f"{repo} is a shallow clone",
            means="commits are numbered along the whole history, and this clone has only its end",
            do=f"deepen it: git -C {repo} fetch --unshallow --tags",
        )
    # Untracked files count: a new source file would be compiled into the wheel.
    changes = ask(repo, "status", "--porcelain", "--untracked-files=normal").splitlines()
    if changes and not allow_dirty:
        raise _dirty_tree(sha, changes)
    return Commit(
        sha=sha,
        number=_number(repo, matrix.load().tag if tag is None else tag),
        time=int(ask(repo, "show", "--no-patch", "--format=%ct", sha)),
        dirty=bool(changes),
    )


def tags_here(repo: Path) -> list[str]:
    """The tags of the commit that is checked out, sorted."""
    return sorted(ask(repo, "tag", "--points-at", "HEAD").split())


def _dirty_tree(sha: str, changes: list[str]) -> DirtyTree:
    shown = [*changes[:10], *([f"… and {len(changes) - 10} more"] if len(changes) > 10 else [])]
    return DirtyTree(
        "the tree has changes that are not committed:\n    " + "\n    ".join(shown),
        means=f"a wheel of it would not be commit {sha[:12]}, though it would say so",
        do="commit or remove them, or pass --allow-dirty for wheels whose version says `dirty`",
    )


def _number(repo: Path, tag: str) -> int:
    tagged = ask(repo, "tag", "--list", tag) == tag
    commits = f"refs/tags/{tag}..HEAD" if tagged else "HEAD"
    return int(ask(repo, "rev-list", "--count", "--first-parent", commits))


def _check_is_checkout(repo: Path) -> None:
    not_a_checkout = GitError(
        f"{repo} is not a git checkout",
        means="wheels are named after a commit, and there is none to name them after",
        do="run this in a clone made by `git clone`",
    )
    root = ask(repo, "rev-parse", "--show-toplevel", fails=not_a_checkout)
    # A folder without .git inside some other repository would pass for that one's commit.
    if Path(root).resolve() != repo.resolve():
        raise not_a_checkout


def _no_commit(repo: Path) -> GitError:
    return GitError(f"{repo} has no commit yet", do="commit something first: git commit")


def ask(repo: Path, *arguments: str, fails: Optional[GitError] = None) -> str:
    """What git prints, less the final newline. Raises `fails`, or GitError with git's words."""
    command = ["git", "-C", str(repo), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise GitError(
            "git is not on PATH",
            means="the commit that a wheel is of cannot be read",
            do="install git (Debian, Ubuntu: apt-get install git)",
        ) from error
    if done.returncode == 0:
        return done.stdout.rstrip("\n")
    words = done.stderr.strip()
    # Another user's checkout is one, and git's own words say how to allow it.
    if fails is not None and "dubious ownership" not in words:
        raise fails
    raise GitError(f"`{' '.join(command)}` failed: {words}")
