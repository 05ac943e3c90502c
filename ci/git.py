"""Reads the commit of a build from git: its hash, number, time and files.

All calls of git are here: without the caller's GIT_DIR and the like, which would lead to another
repository, and only with plumbing commands, whose output no configuration changes. Whether a tree
is dirty is decided by comparing bytes: git itself ignores line endings that it converted.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ci import matrix
from ci.errors import CiError

SHOWN = 10  # changed files that an error lists
# Files that the user's own ignore list names would be compiled all the same; and no fsmonitor
# daemon.
OWN_SETTINGS = ("-c", "core.excludesFile=/dev/null", "-c", "core.fsmonitor=false")
SYMLINK, SUBMODULE = "120000", "160000"
# A clone has exactly the committed files: no converted line endings, no hooks of a template.
CLONE = ("-c", "core.autocrlf=false", "-c", "core.hooksPath=/dev/null", "--template=")


class GitError(CiError):
    """git is missing, or this is not a checkout that a build can be named after."""


class NoCheckout(GitError):
    """The folder is not the root of a checkout; it may be an unpacked sdist."""


class ShallowClone(GitError):
    """The history is incomplete, so commits cannot be numbered."""


class DirtyTree(GitError):
    """Files differ from the commit that the wheels would be named after."""


class ChangedTree(GitError):
    """The tree was changed while wheels were built of it."""


@dataclass(frozen=True)
class Head:
    """The commit that is checked out, and the files that differ from it."""

    sha: str  # 40 hex digits
    time: int  # of the committer, in seconds since 1970
    changes: tuple[str, ...]  # "modified: ci/git.py"

    @property
    def dirty(self) -> bool:
        return bool(self.changes)


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
            do=f"deepen it: git -C {repo} fetch --unshallow --tags",
        )
    if head.changes and not allow_dirty:
        raise _dirty_tree(repo, head)
    number = _number(repo, matrix.load().tag if tag is None else tag)
    subject, parent = _message(repo, head.sha)
    changed = _differing(repo, parent, head.sha) if parent else ()
    return Commit(head.sha, number, head.time, head.dirty, subject, parent, changed)


def read_head(repo: Path) -> Head:
    """What is checked out in `repo`, which may be a shallow clone. Raises GitError."""
    _check_is_checkout(repo)
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


def tags_here(repo: Path) -> list[str]:
    """The tags of the commit that is checked out, sorted."""
    name = "--format=%(refname:strip=2)"
    return sorted(ask(repo, "for-each-ref", "--points-at=HEAD", name, "refs/tags").split())


def history(repo: Path) -> list[str]:
    """The checked out commit and its ancestors, newest first. Raises GitError."""
    _check_is_checkout(repo)
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
        _check_is_checkout(repo)
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
    return {name: blob for name, (_, blob) in _entries(repo, commit).items()}


def read_file(repo: Path, commit: str, name: str) -> bytes:
    """The content of a committed file. Raises GitError."""
    return _run(repo, ("cat-file", "blob", f"{commit}:{name}"))


def export(repo: Path, commit: str, target: Path) -> None:
    """Writes the files of a commit to `target`, byte for byte. Raises GitError."""
    files = committed_files(repo, commit)
    asked = "".join(f"{blob}\n" for blob in files.values()).encode()
    answer = _run(repo, ("cat-file", "--batch"), given=asked)
    for name in (
        files
    ):  # cat-file --batch prints a line that ends in the size, then the content and a newline
        header, _, answer = answer.partition(b"\n")
        size = int(header.split()[2])
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(answer[:size])
        answer = answer[size + 1 :]


def working_files(repo: Path) -> list[str]:
    """Every file of the tree, committed or not, except those that its .gitignore names."""
    # Not those that .git/info/exclude names, for this clone alone.
    options = ("-z", "--cached", "--others", "--exclude-per-directory=.gitignore")
    names = sorted(set(filter(None, ask(repo, "ls-files", *options).split("\0"))))
    return [name for name in names if os.path.lexists(repo / name)]


def blob_id(data: bytes) -> str:
    """The blob id of a file with this content."""
    return hashlib.sha1(b"blob %d\0%s" % (len(data), data)).hexdigest()


def clone(source: Path, target: Path, commit: str) -> None:
    """Clones the repository `source` and checks out one commit of it. Raises GitError."""
    folders = str(source.resolve()), str(target.resolve())
    ask(source, "clone", "--quiet", "--no-checkout", *CLONE, *folders)
    ask(target, "checkout", "--quiet", "--detach", commit)


def ask(repo: Path, *arguments: str, fails: Optional[GitError] = None) -> str:
    """The output of git, less the final newline. Raises `fails`, or GitError with its message."""
    return os.fsdecode(_run(repo, arguments, fails)).rstrip("\n")


def _run(
    repo: Path,
    arguments: tuple[str, ...],
    fails: Optional[GitError] = None,
    given: bytes = b"",
) -> bytes:
    command = ["git", "-C", str(repo), *OWN_SETTINGS, *arguments]
    try:
        done = subprocess.run(
            command, env=_environment(), input=given, capture_output=True, check=False
        )
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise GitError(
            "git is not on PATH" if missing else f"git cannot be run: {error}",
            means="the commit for the wheels cannot be read",
            do="install git (Debian, Ubuntu: apt-get install git)",
        ) from error
    if done.returncode == 0:
        return done.stdout
    words = os.fsdecode(done.stderr).strip()
    if "dubious ownership" in words:
        raise GitError(
            f"{repo} belongs to another user, and git does not read it",
            means="a repository's settings can run programs, so git only trusts this user's own",
            do=f"if you trust it: git config --global --add safe.directory {repo.resolve()}",
        )
    raise fails or GitError(f"`{' '.join(command)}` failed: {words}")


def _environment(given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for git: no variable that names a repository, and messages in English.

    GIT_CONFIG_* stays, like the user's configuration: it may set safe.directory, and does not
    change the output of plumbing commands.
    """
    kept = {
        name: value
        for name, value in given.items()
        if not name.startswith("GIT_") or name.startswith("GIT_CONFIG_")
    }
    own = {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_REPLACE_OBJECTS": "1"}
    return {**kept, **own}


def _check_is_checkout(repo: Path) -> None:
    not_a_checkout = NoCheckout(
        f"{repo} is not a git checkout",
        means="wheels are named after a commit, and there is none here",
        do="run this in a clone made by `git clone`",
    )
    root = ask(repo, "rev-parse", "--show-toplevel", fails=not_a_checkout)
    # A folder without .git inside another repository would be taken for that one's commit.
    if Path(root).resolve() != repo.resolve():
        raise not_a_checkout


def _number(repo: Path, tag: str) -> int:
    tagged = ask(repo, "for-each-ref", "--format=%(refname)", f"refs/tags/{tag}")
    commits = f"{tagged}..HEAD" if tagged else "HEAD"
    return int(ask(repo, "rev-list", "--count", "--first-parent", commits))


def _message(repo: Path, commit: str) -> tuple[str, Optional[str]]:
    """The subject of a commit, and its first parent."""
    head, _, body = _run(repo, ("cat-file", "commit", commit)).partition(b"\n\n")
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
    before, after = _entries(repo, one), _entries(repo, other)
    return tuple(sorted(n for n in before.keys() | after.keys() if before.get(n) != after.get(n)))


def _entries(repo: Path, commit: str) -> dict[str, tuple[str, str]]:
    """Name → mode and blob id of every file of a commit, and of every submodule."""
    listing = ask(repo, "ls-tree", "-r", "-z", "--full-tree", f"{commit}^{{tree}}")
    rows = (entry.split("\t", 1) for entry in listing.split("\0") if entry)
    return {name: (about.split()[0], about.split()[2]) for about, name in rows}


def _changes(repo: Path, commit: str) -> Iterator[str]:
    """The files of the tree that differ from `commit`, or are not in it."""
    committed = _entries(repo, commit)
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


def _dirty_tree(repo: Path, head: Head) -> DirtyTree:
    changes = list(head.changes)
    if len(changes) > SHOWN:
        changes[SHOWN:] = [f"… and {len(changes) - SHOWN} more"]
    what = "the tree has uncommitted changes:\n    " + "\n    ".join(changes)
    means = f"a wheel of it would claim to be commit {head.sha[:12]}, and would not be"
    if all(change.startswith("line endings:") for change in head.changes):
        return DirtyTree(
            what,
            means=f"git converted line endings (core.autocrlf); {means}",
            do="check the files out again by .gitattributes; nothing else differs, so nothing "
            f"is lost: git -C {repo} rm -rq --cached . && git -C {repo} reset -q --hard",
        )
    return DirtyTree(
        what,
        means=means,
        do="commit or remove them, or pass --allow-dirty for wheels whose version says `dirty`",
    )
