"""The commit that a build is of, read from git: its hash, its number, its time, its files.

Every question to git is asked in one place: without the caller's GIT_DIR and the like, which would
lead to another repository, and by plumbing commands alone, which no configuration makes print
something else. Whether a tree is its commit is decided by the bytes of its files; git itself takes
a file for unchanged whose line endings it converted.
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
# What a person's own list ignores would be compiled all the same, and no daemon of theirs answers
# in git's place.
OWN_SETTINGS = ("-c", "core.excludesFile=/dev/null", "-c", "core.fsmonitor=false")
SYMLINK, SUBMODULE = "120000", "160000"
# Copies of a repository are made of its commits alone: no line endings of a person's configuration,
# no hooks of a template.
CLONE = ("-c", "core.autocrlf=false", "-c", "core.hooksPath=/dev/null", "--template=")


class GitError(CiError):
    """git is missing, or this is no checkout that a build could be named after."""


class NoCheckout(GitError):
    """A folder that is not the root of a checkout, such as an unpacked sdist."""


class ShallowClone(GitError):
    """History is cut off, so commits cannot be numbered."""


class DirtyTree(GitError):
    """Files differ from the commit that the wheels would claim to be."""


@dataclass(frozen=True)
class Head:
    """The commit that is checked out, and what in the tree differs from it."""

    sha: str  # 40 hex digits
    time: int  # of the committer, in seconds since 1970
    changes: tuple[str, ...]  # "modified: ci/git.py"

    @property
    def dirty(self) -> bool:
        return bool(self.changes)


@dataclass(frozen=True)
class Commit:
    """A commit as wheels are named after it."""

    sha: str  # 40 hex digits
    number: int  # commits along the first parent since the tag of ci/matrix.toml
    time: int  # of the committer, in seconds since 1970
    dirty: bool  # the tree holds something that the commit does not
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
            means="commits are numbered along the whole history, and this clone has only its end",
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


def tags_here(repo: Path) -> list[str]:
    """The tags of the commit that is checked out, sorted."""
    name = "--format=%(refname:strip=2)"
    return sorted(ask(repo, "for-each-ref", "--points-at=HEAD", name, "refs/tags").split())


def history(repo: Path) -> list[str]:
    """The commits from the one checked out back, nearest first. Raises GitError."""
    _check_is_checkout(repo)
    return ask(repo, "rev-list", "HEAD").split()


@dataclass(frozen=True)
class Landed:
    """A commit, and how the branch that is checked out came to have it."""

    commit: str
    time: int  # of the committer, in seconds since 1970
    merge: Optional[str]  # the first on the first-parent line to have it; None: not in this history


def landed(repo: Path, name: str) -> Optional[Landed]:
    """The commit that `name` is, if this clone has it; None otherwise, and where no clone is."""
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
    """A file as it was committed. Raises GitError."""
    return _run(repo, ("cat-file", "blob", f"{commit}:{name}"))


def export(repo: Path, commit: str, target: Path) -> None:
    """Writes the files of a commit to `target`, byte for byte. Raises GitError."""
    files = committed_files(repo, commit)
    asked = "".join(f"{blob}\n" for blob in files.values()).encode()
    answer = _run(repo, ("cat-file", "--batch"), given=asked)
    for name in files:  # each answer is a line that ends in the size, the content and a newline
        header, _, answer = answer.partition(b"\n")
        size = int(header.split()[2])
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(answer[:size])
        answer = answer[size + 1 :]


def working_files(repo: Path) -> list[str]:
    """Every file that is in the tree and that its .gitignore does not name, committed or not."""
    options = ("-z", "--cached", "--others", "--exclude-standard")
    names = sorted(set(filter(None, ask(repo, "ls-files", *options).split("\0"))))
    return [name for name in names if os.path.lexists(repo / name)]


def blob_id(data: bytes) -> str:
    """git's name for a file of this content."""
    return hashlib.sha1(b"blob %d\0%s" % (len(data), data)).hexdigest()


def clone(source: Path, target: Path, commit: str) -> None:
    """Clones the repository `source` and checks out one commit of it. Raises GitError."""
    folders = str(source.resolve()), str(target.resolve())
    ask(source, "clone", "--quiet", "--no-checkout", *CLONE, *folders)
    ask(target, "checkout", "--quiet", "--detach", commit)


def ask(repo: Path, *arguments: str, fails: Optional[GitError] = None) -> str:
    """What git prints, less the final newline. Raises `fails`, or GitError with git's words."""
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
            means="the commit that a wheel is of cannot be read",
            do="install git (Debian, Ubuntu: apt-get install git)",
        ) from error
    if done.returncode == 0:
        return done.stdout
    words = os.fsdecode(done.stderr).strip()
    if "dubious ownership" in words:
        raise GitError(
            f"{repo} belongs to another user, and git does not read it",
            means="a repository's settings can run programs, so git wants it to be of this user",
            do=f"if you trust it: git config --global --add safe.directory {repo.resolve()}",
        )
    raise fails or GitError(f"`{' '.join(command)}` failed: {words}")


def _environment(given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of git: nothing that names a repository, and words in English.

    GIT_CONFIG_*, like a person's configuration, stays: it may say that a repository is safe, and
    changes nothing that plumbing prints.
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
        means="wheels are named after a commit, and there is none to name them after",
        do="run this in a clone made by `git clone`",
    )
    root = ask(repo, "rev-parse", "--show-toplevel", fails=not_a_checkout)
    # A folder without .git inside some other repository would pass for that one's commit.
    if Path(root).resolve() != repo.resolve():
        raise not_a_checkout


def _number(repo: Path, tag: str) -> int:
    tagged = ask(repo, "for-each-ref", "--format=%(refname)", f"refs/tags/{tag}")
    commits = f"{tagged}..HEAD" if tagged else "HEAD"
    return int(ask(repo, "rev-list", "--count", "--first-parent", commits))


def _message(repo: Path, commit: str) -> tuple[str, Optional[str]]:
    """The subject of a commit, and its first parent."""
    header, _, message = ask(repo, "cat-file", "commit", commit).partition("\n\n")
    parents = [line[len("parent ") :] for line in header.split("\n") if line.startswith("parent ")]
    return " ".join(message.strip().partition("\n\n")[0].split()), next(iter(parents), None)


def _differing(repo: Path, one: str, other: str) -> tuple[str, ...]:
    before, after = _entries(repo, one), _entries(repo, other)
    return tuple(sorted(n for n in before.keys() | after.keys() if before.get(n) != after.get(n)))


def _entries(repo: Path, commit: str) -> dict[str, tuple[str, str]]:
    """Name → mode and blob id of every file of a commit, and of every submodule."""
    listing = ask(repo, "ls-tree", "-r", "-z", "--full-tree", f"{commit}^{{tree}}")
    rows = (entry.split("\t", 1) for entry in listing.split("\0") if entry)
    return {name: (about.split()[0], about.split()[2]) for about, name in rows}


def _changes(repo: Path, commit: str) -> Iterator[str]:
    """What the bytes of the tree have in another way than `commit`, or beside it."""
    committed = _entries(repo, commit)
    for name, (mode, blob) in committed.items():
        path = repo / name
        if mode == SUBMODULE:
            continue
        if not os.path.lexists(path) or path.is_symlink() != (mode == SYMLINK):
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


def _target(path: Path) -> bytes:
    return os.fsencode(os.readlink(path))  # noqa: PTH115  (Path.readlink came with Python 3.9)


def _dirty_tree(repo: Path, head: Head) -> DirtyTree:
    changes = list(head.changes)
    if len(changes) > SHOWN:
        changes[SHOWN:] = [f"… and {len(changes) - SHOWN} more"]
    what = "the tree has changes that are not committed:\n    " + "\n    ".join(changes)
    means = f"a wheel of it would not be commit {head.sha[:12]}, though it would say so"
    if all(change.startswith("line endings:") for change in head.changes):
        return DirtyTree(
            what,
            means=f"git converted line endings when it checked this out (core.autocrlf); {means}",
            do="check the files out again as .gitattributes says; nothing else differs, so nothing "
            f"is lost: git -C {repo} rm -rq --cached . && git -C {repo} reset -q --hard",
        )
    return DirtyTree(
        what,
        means=means,
        do="commit or remove them, or pass --allow-dirty for wheels whose version says `dirty`",
    )
