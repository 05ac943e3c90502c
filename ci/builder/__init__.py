"""Builds the wheels of a commit: the canonical one of each variant, and all that are packed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from rich.console import Console

from ci import digest, git, matrix, versions
from ci.builder import canonical, toolkit
from ci.errors import CiError
from ci.git import Commit
from ci.lock import locked
from ci.matrix import Cuda, Matrix
from ci.names import python_tag
from ci.reuse import Reuse
from ci.scratch import write_atomically
from ci.stages import Stages
from ci.wheel import reader, sbom
from ci.wheel.archive import Compressor
from ci.wheel.pack import repack

BUILD = "build"  # in the repository, ignored by git


@dataclass(frozen=True)
class Label:
    """What one packed wheel says it is."""

    version: str  # "0.5.4+cu118"
    tag: str  # "cp38-abi3-manylinux1_x86_64"


def build(
    repo: Path,
    out: Path,
    *,
    commit: Optional[Commit] = None,
    variants: Sequence[str] = (),
    labels: Optional[Callable[[Cuda], Sequence[Label]]] = None,
    reuse: Optional[Reuse] = None,
    console: Optional[Console] = None,
    stages: Optional[Stages] = None,
) -> list[Path]:
    """Leaves in `out` the wheels of the commit checked out in `repo`, and returns their paths.

    variants: which ones; all of the matrix if it names none.
    labels: the wheels to pack of each; by default `commit_labels`.
    reuse: where native files of the same inputs may be found. What an earlier call compiled is
    used again too.
    stages: is told the time of fetching, compiling and packing.
    Raises GitError, MatrixError, BuildError and ToolkitError.
    """
    commit = commit or git.read(repo)
    console = console or Console()
    stages = stages or Stages(console)
    known = matrix.load(repo / "ci" / "matrix.toml")
    chosen = [known.variant(name) for name in variants] or list(known.cudas)
    folder = (repo / BUILD).resolve()
    with locked(folder / ".lock", console.print) as mark:
        with stages.timed("fetch"):
            prebuilt = _reuse(repo, known, chosen, reuse, folder / "prebuilt", console)
            if reuse is not None:
                reuse.forget(commit.sha)
            missing = [cuda for cuda in chosen if cuda.variant not in prebuilt]
            toolkits = toolkit.fetch(missing, folder / "toolkit", console)
        with stages.timed("canonical wheels"):
            wheels = canonical.build(
                repo.resolve(),
                folder,
                known,
                commit,
                toolkits=toolkits,
                prebuilt=prebuilt,
                mark=mark,
                console=console,
            )
        chosen_labels = labels or (lambda cuda: commit_labels(known, cuda, commit))
        with stages.timed("packing"):
            return _pack(repo, wheels, out, known, commit, chosen_labels)


def commit_labels(known: Matrix, cuda: Cuda, commit: Commit) -> list[Label]:
    """A commit's wheels of one variant: of the documented name, and of its own version."""
    dirty = commit.dirty
    public = versions.public(known.version, cuda.local, dirty=dirty)
    development = versions.development(
        known.version, commit.number, commit.sha, cuda.local, dirty=dirty
    )
    return [Label(version, _abi3_tag(known)) for version in (public, development)]


def release_labels(known: Matrix, cuda: Cuda) -> list[Label]:
    """A release's wheels of one variant: for every Python, and for each by itself."""
    version = versions.public(known.version, cuda.local)
    pythons = map(python_tag, known.pythons)
    tags = [_abi3_tag(known), *(f"{tag}-{tag}-{known.platform_tag}" for tag in pythons)]
    return [Label(version, tag) for tag in tags]


def _abi3_tag(known: Matrix) -> str:
    return f"{python_tag(known.abi3)}-abi3-{known.platform_tag}"


def _reuse(
    repo: Path,
    known: Matrix,
    cudas: Sequence[Cuda],
    reuse: Optional[Reuse],
    folder: Path,
    console: Console,
) -> dict[str, Path]:
    """Native files of other wheels, of the variants for which there are any that can be trusted."""
    prebuilt: dict[str, Path] = {}
    if reuse is None:
        return prebuilt
    for cuda in cudas:
        wanted = digest.native_digest(repo, known, cuda)
        try:
            found = reuse.native_files(cuda, wanted, folder / cuda.variant)
        except CiError as error:
            console.print(f"{cuda.variant}: compiling, for {error}", markup=False)
            continue
        if found is not None:
            prebuilt[cuda.variant] = found
            source = reuse.used[cuda.variant]
            console.print(f"{cuda.variant}: native files of commit {source}, nothing to compile")
    return prebuilt


def _pack(
    repo: Path,
    wheels: dict[str, Path],
    out: Path,
    known: Matrix,
    commit: Commit,
    labels: Callable[[Cuda], Sequence[Label]],
) -> list[Path]:
    """Packs each variant's canonical wheel under its labels."""
    compress = Compressor()
    programs = digest.program_versions(repo)
    paths: list[Path] = []
    for variant, path in wheels.items():
        cuda = known.variant(variant)
        _, members = reader.open_wheel(path)
        for label in labels(cuda):
            name, data = repack(
                [*members, sbom.member(label.version, cuda, programs)],
                version=label.version,
                tag=label.tag,
                timestamp=canonical.source_date_epoch(commit),
                compress=compress,
            )
            write_atomically(out / name, data)
            paths.append(out / name)
    return paths
