"""The files that a wheel must contain, read from its commit by git."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from ci import git, toml
from ci.errors import CiError
from ci.git import GitError
from ci.wheel.build_info import BuildInfo

PACKAGE = "python/"
KERNELS = "csrc/kernels/"


class UnknownCommit(CiError):
    """The checkout does not have the wheel's commit, so the expected contents are unknown."""


@dataclass(frozen=True)
class Tree:
    """The part of a source tree that ends up in a wheel."""

    python: dict[str, str]  # member of the wheel → git's blob id of its content
    kernels: tuple[str, ...]  # stems of csrc/kernels/*/*.cu
    licenses: dict[str, str]  # file → git's blob id of its content
    expression: str  # SPDX license expression
    has_scripts: bool


def read(repo: Path, build: BuildInfo) -> Tree:
    """The tree of the wheel's commit; for a wheel of a dirty tree, the files as they are now.

    Raises UnknownCommit where `repo` does not have that commit.
    """
    try:
        if build.dirty:
            files = _working_files(repo)
            pyproject = (repo / "pyproject.toml").read_bytes()
        else:
            files = git.committed_files(repo, str(build.commit))
            pyproject = git.read_file(repo, str(build.commit), "pyproject.toml")
    except GitError as error:
        raise UnknownCommit(
            error.what,
            means="the expected contents of a wheel are read from the commit in its build.json",
            do=error.do or f"fetch that commit: {git.typed(repo)} fetch --all",
        ) from error
    project: dict[str, Any] = toml.loads(pyproject.decode())["project"]
    return Tree(
        python={
            name[len(PACKAGE) :]: blob for name, blob in files.items() if name.startswith(PACKAGE)
        },
        kernels=tuple(
            PurePosixPath(name).stem
            for name in sorted(files)
            if name.startswith(KERNELS) and name.endswith(".cu")
        ),
        licenses={
            name: blob
            for name, blob in sorted(files.items())
            if any(_matches(name, pattern) for pattern in project.get("license-files", ()))
        },
        expression=str(project.get("license")),
        has_scripts=bool(project.get("scripts")),
    )


def _matches(name: str, pattern: str) -> bool:
    """Whether a PEP 639 glob matches a file; `*` does not match a slash."""
    return name.count("/") == pattern.count("/") and fnmatchcase(name, pattern)


def _working_files(repo: Path) -> dict[str, str]:
    paths = ((name, repo / name) for name in git.working_files(repo))
    return {name: git.blob_id(path.read_bytes()) for name, path in paths if path.is_file()}
