"""Builds the wheels of a commit: the canonical one of each variant, and all that are packed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from rich.console import Console

from ci import git, matrix, versions
from ci.build import canonical, toolkit
from ci.build.donors import Donors
from ci.build.lock import locked
from ci.digest import native_digest
from ci.errors import CiError
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
    donors: Optional[Donors] = None,
    console: Optional[Console] = None,
) -> list[Path]:
    """Leaves in `out` the wheels of the commit checked out in `repo`, and returns their paths.

    For each variant (all of the matrix, unless `variants` names some): the wheel of the documented
    name and the one of the commit's development version, both for every Python. What an earlier
    call compiled is used again, and so are native files of wheels that `donors` finds.
    Raises GitError, MatrixError, BuildError and ToolkitError.
    """
    commit = commit or git.read(repo)
    console = console or Console()
    known = matrix.load(repo / "ci" / "matrix.toml")
    chosen = [known.variant(name) for name in variants] or list(known.cudas)
    folder = (repo / BUILD).resolve()
    with locked(folder, console):
        prebuilt = _borrow(repo, known, chosen, donors, folder / "prebuilt", console)
        if donors is not None:
            donors.forget(commit.sha)
        missing = [cuda for cuda in chosen if cuda.variant not in prebuilt]
        toolkits = toolkit.fetch(missing, folder / "toolkit", console)
        wheels = canonical.build(
            repo.resolve(),
            folder,
            known,
            commit,
            toolkits=toolkits,
            prebuilt=prebuilt,
            console=console,
        )
        return _pack(wheels, out, known, commit)


def _borrow(
    repo: Path,
    known: Matrix,
    cudas: Sequence[Cuda],
    donors: Optional[Donors],
    folder: Path,
    console: Console,
) -> dict[str, Path]:
    """Native files of other wheels, of the variants for which there are any that can be trusted."""
    prebuilt: dict[str, Path] = {}
    if donors is None:
        return prebuilt
    for cuda in cudas:
        digest = native_digest(repo, known, cuda)
        try:
            found = donors.native_files(cuda, digest, folder / cuda.variant)
        except CiError as error:
            console.print(f"{cuda.variant}: compiling, for {error}", markup=False)
            continue
        if found is not None:
            prebuilt[cuda.variant] = found
            source = donors.used[cuda.variant]
            console.print(f"{cuda.variant}: native files of commit {source}, nothing to compile")
    return prebuilt


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
