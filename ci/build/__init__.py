"""Builds the wheels of a commit: the canonical one of each variant, and all that are packed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from rich.console import Console

from ci import git, matrix, versions
from ci.build import canonical, toolkit
from ci.build.lock import locked
from ci.git import Commit
from ci.matrix import Cuda, Matrix
from ci.names import python_tag
from ci.wheel import reader
from ci.wheel.archive import Compressor, write_atomically
from ci.wheel.pack import repack

BUILD = "build"  # in the repository, ignored by git


def build(
    repo: Path,
    out: Path,
    *,
    commit: Optional[Commit] = None,
    variants: Sequence[str] = (),
    console: Optional[Console] = None,
) -> list[Path]:
    """Leaves in `out` the wheels of the commit checked out in `repo`, and returns their paths.

    For each variant (all of the matrix, unless `variants` names some): the wheel of the documented
    name and the one of the commit's development version, both for every Python. What an earlier
    call compiled is used again. Raises GitError, BuildError and ToolkitError.
    """
    commit = commit or git.read(repo)
    console = console or Console()
    known = matrix.load(repo / "ci" / "matrix.toml")
    chosen = [known.variant(name) for name in variants] or list(known.cudas)
    with locked(repo / BUILD, console):
        toolkits = toolkit.fetch(chosen, repo / BUILD / "toolkit", console)
        wheels = canonical.build(repo, repo / BUILD, known, toolkits, commit, console)
        return _pack(wheels, out, known, commit)


def wheel_versions(known: Matrix, cuda: Cuda, commit: Commit) -> list[str]:
    """The versions under which a commit's wheel of one variant is published."""
    return [
        versions.public(known.version, cuda.local, dirty=commit.dirty),
        versions.development(
            known.version, commit.number, commit.sha, cuda.local, dirty=commit.dirty
        ),
    ]


def _pack(wheels: dict[str, Path], out: Path, known: Matrix, commit: Commit) -> list[Path]:
    """Packs each variant's canonical wheel under its versions and the documented tag."""
    compress = Compressor()
    tag = f"{python_tag(known.abi3)}-abi3-{known.platform_tag}"
    paths: list[Path] = []
    for variant, path in wheels.items():
        _, members = reader.open_wheel(path)
        for version in wheel_versions(known, known.variant(variant), commit):
            name, data = repack(
                members,
                version=version,
                tag=tag,
                timestamp=canonical.source_date_epoch(commit),
                compress=compress,
            )
            write_atomically(out / name, data)
            paths.append(out / name)
    return paths
