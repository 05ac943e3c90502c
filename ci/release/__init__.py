"""Builds a release: every wheel of the matrix, the sdist, checksums and provenance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional

from packaging.version import InvalidVersion, Version
from rich.console import Console

from ci import builder, git, matrix
from ci.git import Commit
from ci.keys import SigningKey
from ci.matrix import Matrix
from ci.release import provenance, sdist, sums
from ci.release.errors import ReleaseError
from ci.reuse import Reuse
from ci.stages import Stages
from ci.wheel import reader

SUMS = "SHA256SUMS"


def release(
    repo: Path,
    out: Path,
    version: str,
    *,
    commit: Commit,
    key: Optional[SigningKey] = None,
    reuse: Optional[Reuse] = None,
    console: Optional[Console] = None,
    stages: Optional[Stages] = None,
) -> list[Path]:
    """Builds release `version` of the commit in `repo` into `out`; returns the paths.

    For each CUDA the abi3 wheel and one for each Python, the sdist, SHA256SUMS, and beside each
    wheel its provenance, signed if there is a `key`.
    Raises ReleaseError for a version that contradicts a tag, and the errors of `ci.builder.build`.
    """
    console = console or Console()
    stages = stages or Stages(console)
    wheels = build_wheels(
        repo, out, version, commit=commit, reuse=reuse, console=console, stages=stages
    )
    return finish(
        repo, out, version, wheels, commit=commit, key=key, console=console, stages=stages
    )


def build_wheels(
    repo: Path,
    out: Path,
    version: str,
    *,
    commit: Commit,
    variants: Sequence[str] = (),
    reuse: Optional[Reuse] = None,
    console: Console,
    stages: Optional[Stages] = None,
) -> list[Path]:
    """Builds the wheels of these variants, by default all; `finish` completes the release."""
    check_version(repo, version)
    released = matrix_of(matrix.load(repo / "ci" / "matrix.toml"), version)
    return builder.build(
        repo,
        out,
        commit=commit,
        variants=variants or [cuda.variant for cuda in released.cudas],  # those on request too
        labels=lambda cuda, platform: builder.release_labels(released, cuda, platform),
        reuse=reuse,
        console=console,
        stages=stages,
        with_symbols=False,  # the commit has them, for the same library
    )


def finish(
    repo: Path,
    out: Path,
    version: str,
    wheels: Sequence[Path],
    *,
    commit: Commit,
    key: Optional[SigningKey],
    console: Console,
    stages: Optional[Stages] = None,
) -> list[Path]:
    """Adds the sdist, provenance and checksums to the complete set of `wheels` in `out`."""
    stages = stages or Stages(console)
    check_version(repo, version)
    released = matrix_of(matrix.load(repo / "ci" / "matrix.toml"), version)
    with stages.timed("sdist"):
        paths = [*wheels, sdist.build(repo, out, released, commit)]
    with stages.timed("provenance and sums"):
        statements = [
            provenance.write(path, repo, released, reader.read(path), key) for path in wheels
        ]
        listing = out / SUMS
        sums.write(listing, paths)
    if key is None:
        console.print("provenance is not signed: no key was given (--key or VLLM_SIGNING_KEY)")
    return [*paths, *statements, listing]


def matrix_of(known: Matrix, version: str) -> Matrix:
    """The matrix with that version, which may be newer than main's."""
    return replace(known, version=version, tag=f"v{version}")


def check_version(repo: Path, version: str) -> None:
    """Raises ReleaseError for an invalid version, or one that a tag of this commit contradicts."""
    try:
        normal = str(Version(version))
    except InvalidVersion as error:
        raise ReleaseError(str(error), do="use a version such as 0.5.4") from error
    if normal != version or Version(version).local or Version(version).is_devrelease:
        raise ReleaseError(
            f"{version!r} is not the version of a release",
            means="a release version is normalized, without development or local part",
            do="use a version such as 0.5.4",
        )
    tags = version_tags(repo)
    if tags and f"v{version}" not in tags:
        raise ReleaseError(
            f"this commit is tagged {', '.join(tags)}, not v{version}",
            means="the tag would not lead to the commit of these wheels",
            do=f"release {tags[-1][1:]}, or move the tag",
        )


def version_of_tag(repo: Path) -> str:
    """The version in this commit's tag. Raises ReleaseError unless there is exactly one."""
    tags = version_tags(repo)
    if len(tags) != 1:
        raise ReleaseError(
            f"this commit has {'no tag' if not tags else 'the tags ' + ', '.join(tags)}",
            means="without --version, the version comes from the commit's only tag",
            do="pass --version, or tag the commit: git tag v0.5.4",
        )
    return tags[0][1:]


def version_tags(repo: Path) -> list[str]:
    """The version tags of this commit."""
    return [tag for tag in git.tags_here(repo) if tag[:1] == "v" and tag[1:2].isdigit()]
