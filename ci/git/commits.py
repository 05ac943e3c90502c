"""The commits of a repository: what they are called, when and how they came, and their files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ci import matrix
from ci.git.run import GitError, ask, output, typed
from ci.git.tree import check_is_checkout, dirty_tree, entries, read_head

# A clone has exactly the committed files: no converted line endings, no hooks of a template.
CLONE = ("-c", "core.autocrlf=false", "-c", "core.hooksPath=/dev/null", "--template=")


class ShallowClone(GitError):
    """The history is incomplete, so commits cannot be numbered."""


@dataclass(frozen=True)
class Commit:
    """A commit, with what wheels and pages show of it."""

    sha: str  # 40 hex digits
    number: int  # commits along the first parent since the tag of ci/matrix.toml
    time: int  # of the committer, in seconds since 1970
    dirty: bool  # the tree differs from the commit
    subject: str = ""  # the first paragraph of its message, in one line
    parent: Optional[str] = None  # the first; None for the root
    changed: tuple[str, ...] = ()  # files that differ from the parent's, sorted


def read(repo: Path, *, allow_dirty: bool = False, tag: Optional[str] = None) -> Commit:
    """The commit checked out in `repo`.

    tag: where numbering starts; by default the one in ci/matrix.toml. Where the repository has no
    such tag, commits are numbered from the root.
    Raises GitError (no git, no checkout, no commit), ShallowClone and, unless `allow_dirty`,
    DirtyTree.
    """
    head = read_head(repo)
    if ask(repo, "rev-parse", "--is-shallow-repository") == "true":
        raise ShallowClone(
            f"{repo} is a shallow clone",
            means="commits are numbered along the whole history, of which this clone has a part",
            do=f"deepen it: {typed(repo)} fetch --unshallow --tags",
        )
    if head.changes and not allow_dirty:
        raise dirty_tree(repo, head)
    number = _number(repo, matrix.load().tag if tag is None else tag)
    subject, parent = _message(repo, head.sha)
    changed = _differing(repo, parent, head.sha) if parent else ()
    return Commit(head.sha, number, head.time, head.dirty, subject, parent, changed)


def tags_here(repo: Path) -> list[str]:
    """The tags of the commit that is checked out, sorted."""
    name = "--format=%(refname:strip=2)"
    return sorted(ask(repo, "for-each-ref", "--points-at=HEAD", name, "refs/tags").split())


def history(repo: Path) -> list[str]:
    """The checked out commit and its ancestors, newest first. Raises GitError."""
    check_is_checkout(repo)
    return ask(repo, "rev-list", "HEAD").split()


@dataclass(frozen=True)
class Landed:
    """A commit, and the merge that brought it to the branch that is checked out."""

    commit: str
    time: int  # of the committer, in seconds since 1970
    merge: Optional[
        str
    ]  # the first commit along the first parents that contains it; None: not in this history


def landed(repo: Path, name: str) -> Optional[Landed]:
    """The commit that `name` refers to; None if this clone lacks it, or this is no clone."""
    try:
        check_is_checkout(repo)
        commit = ask(repo, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    except GitError:
        return None
    time = int(ask(repo, "rev-list", "--timestamp", "--max-count=1", commit).split()[0])
    line = ask(repo, "rev-list", "--first-parent", "HEAD").split()
    if commit in line:
        return Landed(commit, time, commit)
    having = set(ask(repo, "rev-list", "--ancestry-path", f"{commit}..HEAD").split())
    return Landed(commit, time, next((c for c in reversed(line) if c in having), None))


def committed_files(repo: Path, commit: str) -> dict[str, str]:
    """Name → blob id of every file of a commit. Raises GitError."""
    return {name: blob for name, (_, blob) in entries(repo, commit).items()}


def read_file(repo: Path, commit: str, name: str) -> bytes:
    """The content of a committed file. Raises GitError."""
    return output(repo, ("cat-file", "blob", f"{commit}:{name}"))


def export(repo: Path, commit: str, target: Path) -> None:
    """Writes the files of a commit to `target`, byte for byte. Raises GitError."""
    files = committed_files(repo, commit)
    asked = "".join(f"{blob}\n" for blob in files.values()).encode()
    answer = output(repo, ("cat-file", "--batch"), given=asked)
    for name in (
        files
    ):  # cat-file --batch prints a line that ends in the size, then the content and a newline
        header, _, answer = answer.partition(b"\n")
        size = int(header.split()[2])
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(answer[:size])
        answer = answer[size + 1 :]


def clone(source: Path, target: Path, commit: str) -> None:
    """Clones the repository `source` and checks out one commit of it. Raises GitError."""
    folders = str(source.resolve()), str(target.resolve())
    ask(source, "clone", "--quiet", "--no-checkout", *CLONE, *folders)
    ask(target, "checkout", "--quiet", "--detach", commit)


def _number(repo: Path, tag: str) -> int:
    tagged = ask(repo, "for-each-ref", "--format=%(refname)", f"refs/tags/{tag}")
    commits = f"{tagged}..HEAD" if tagged else "HEAD"
    return int(ask(repo, "rev-list", "--count", "--first-parent", commits))


def _message(repo: Path, commit: str) -> tuple[str, Optional[str]]:
    """The subject of a commit, and its first parent."""
    head, _, body = output(repo, ("cat-file", "commit", commit)).partition(b"\n\n")
    rows = [row.partition(" ") for row in os.fsdecode(head).split("\n")]
    headers = {name: value for name, _, value in reversed(rows)}  # the first parent last
    message = _decode(body, headers.get("encoding", "utf-8"))
    return " ".join(message.strip().partition("\n\n")[0].split()), headers.get("parent")


def _decode(text: bytes, encoding: str) -> str:
    """A message as text: i18n.commitEncoding names any encoding, and may be wrong."""
    try:
        return text.decode(encoding, "replace")
    except (LookupError, ValueError):
        return text.decode("utf-8", "replace")


def _differing(repo: Path, one: str, other: str) -> tuple[str, ...]:
    before, after = entries(repo, one), entries(repo, other)
    return tuple(sorted(n for n in before.keys() | after.keys() if before.get(n) != after.get(n)))
