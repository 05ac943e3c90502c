"""Builds the wheels of a commit: a canonical one per variant, from which the rest are packed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from rich.console import Console

from ci import digest, git, matrix, names, versions
from ci.builder import canonical, toolkit
from ci.builder.canonical import Cell
from ci.errors import CiError
from ci.git import Commit
from ci.lock import locked
from ci.matrix import Cuda, Matrix, Platform
from ci.reuse import Reuse
from ci.scratch import write_atomically
from ci.stages import Stages
from ci.wheel import reader, sbom, symbols
from ci.wheel.archive import Compressor
from ci.wheel.pack import repack

BUILD = "build"  # in the repository, ignored by git


@dataclass(frozen=True)
class Label:
    """The version and tag of one packed wheel."""

    version: str  # "0.5.4+cu118"
    tag: str  # "cp38-abi3-manylinux1_x86_64"


def build(
    repo: Path,
    out: Path,
    *,
    commit: Optional[Commit] = None,
    variants: Sequence[str] = (),
    labels: Optional[Callable[[Cuda, Platform], Sequence[Label]]] = None,
    reuse: Optional[Reuse] = None,
    console: Optional[Console] = None,
    stages: Optional[Stages] = None,
    with_symbols: bool = True,
) -> list[Path]:
    """Leaves in `out` the wheels of the commit checked out in `repo`, and returns their paths.

    variants: their names; if empty, those that every commit has.
    labels: the wheels to pack of each; by default `commit_labels`.
    reuse: finds published native files of the same inputs. What an earlier call compiled is reused
    as well.
    stages: records the time of fetching, compiling and packing.
    with_symbols: whether debug symbols are written to `out`, too.
    Raises GitError, MatrixError, BuildError and ToolkitNotFetched.
    """
    commit = commit or git.read(repo)
    head = git.read_head(repo)
    console = console or Console()
    stages = stages or Stages(console)
    known = matrix.load(repo / "ci" / "matrix.toml")
    chosen = [known.variant(name) for name in variants] or list(known.of_commit().cudas)
    folder = (repo / BUILD).resolve()
    with locked(folder / ".lock", console.print) as mark:
        with stages.timed("fetch"):
            prebuilt = _reuse(repo, known, chosen, reuse, folder / "prebuilt", console)
            if reuse is not None:
                reuse.forget(commit.sha)
            missing = [cuda for cuda in chosen if not any(cell.cuda == cuda for cell in prebuilt)]
            compilers = {each for cuda in missing for each in cuda.toolkits}
            toolkits = toolkit.fetch(
                sorted(compilers, key=lambda each: matrix.numbers(each.version)),
                folder / "toolkit",
                console,
            )
        with stages.timed("canonical wheels"):
            wheels = canonical.build(
                repo.resolve(),
                folder,
                known,
                commit,
                compiled=missing,
                toolkits=toolkits,
                prebuilt=prebuilt,
                mark=mark,
                console=console,
            )
        git.require_unchanged(repo, head)
        chosen_labels = labels or (
            lambda cuda, platform: commit_labels(known, cuda, platform, commit)
        )
        with stages.timed("packing"):
            if with_symbols:
                _copy_symbols(wheels.values(), out)
            return _pack(repo, wheels, out, known, commit, chosen_labels)


def commit_labels(known: Matrix, cuda: Cuda, platform: Platform, commit: Commit) -> list[Label]:
    """A commit's wheels of one variant: one with the documented name, one with a unique version."""
    dirty = commit.dirty
    public = versions.public(known.version, cuda.local, dirty=dirty)
    development = versions.development(
        known.version, commit.number, commit.sha, cuda.local, dirty=dirty
    )
    tag = names.abi3_tag(known, platform)
    return [Label(version, tag) for version in (public, development)]


def release_labels(known: Matrix, cuda: Cuda, platform: Platform) -> list[Label]:
    """A release's wheels of one variant: one for every Python, and one for each."""
    version = versions.public(known.version, cuda.local)
    return [Label(version, tag) for tag in names.release_tags(known, platform)]


def _reuse(
    repo: Path,
    known: Matrix,
    cudas: Sequence[Cuda],
    reuse: Optional[Reuse],
    folder: Path,
    console: Console,
) -> dict[Cell, Path]:
    """Verified native files of published wheels, for each variant that has them.

    A variant is reused for all its platforms or compiled for all: they share device code.
    """
    prebuilt: dict[Cell, Path] = {}
    if reuse is None:
        return prebuilt
    for cuda in cudas:
        found: dict[Cell, Optional[Path]] = {}
        try:
            for platform in known.platforms_of(cuda):
                wanted = digest.native_digest(repo, known, cuda, platform)
                target = folder / f"{cuda.variant}-{platform.processor}"
                found[Cell(cuda, platform)] = reuse.native_files(cuda, wanted, target)
        except CiError as error:
            console.print(f"{cuda.variant}: compiling, because {error}", markup=False)
            continue
        complete = {cell: path for cell, path in found.items() if path is not None}
        if len(complete) == len(found):
            prebuilt.update(complete)
            source = reuse.used[cuda.variant]
            console.print(f"{cuda.variant}: native files of commit {source}, nothing to compile")
        else:
            reuse.used.pop(cuda.variant, None)
    return prebuilt


def _copy_symbols(wheels: Iterable[Path], out: Path) -> None:
    for path in wheels:
        build_id = symbols.build_id_of(path)
        if build_id and (debug := path.parent / symbols.name_of(build_id)).is_file():
            symbols.place(debug.read_bytes(), build_id, out)


def _pack(
    repo: Path,
    wheels: dict[Cell, Path],
    out: Path,
    known: Matrix,
    commit: Commit,
    labels: Callable[[Cuda, Platform], Sequence[Label]],
) -> list[Path]:
    """Packs each canonical wheel under its labels."""
    compress = Compressor()
    programs = digest.program_versions(repo)
    paths: list[Path] = []
    for cell, path in wheels.items():
        _, members = reader.open_wheel(path)
        for label in labels(cell.cuda, cell.platform):
            bill = sbom.member(label.version, cell.cuda, cell.platform, programs)
            name, data = repack(
                [*members, bill],
                version=label.version,
                tag=label.tag,
                timestamp=canonical.source_date_epoch(commit),
                compress=compress,
            )
            write_atomically(out / name, data)
            paths.append(out / name)
    return paths
