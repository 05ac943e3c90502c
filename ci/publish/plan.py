"""From wheels to the unit that they make up, complete or refused; pure."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Mapping, Optional, Sequence

from ci import digest, names, versions
from ci.git import Commit
from ci.index.fields import LINE
from ci.index.manifest import Attachment, Change, File, Unit
from ci.matrix import Matrix
from ci.publish.errors import IncompleteSet, PublishError
from ci.store import Body

if TYPE_CHECKING:
    from ci.wheel.reader import WheelFile


SHOWN = 20  # native files that changed, by name


def commit_wheels(matrix: Matrix, commit: Commit) -> dict[str, str]:
    """The wheels that a complete commit has: file name → variant."""
    expected = {}
    for cuda in matrix.cudas:
        for version in (
            versions.public(matrix.version, cuda.local),
            versions.development(matrix.version, commit.number, commit.sha, cuda.local),
        ):
            for platform in matrix.platforms_of(cuda):
                expected[names.abi3_wheel_name(matrix, version, platform)] = cuda.variant
    return expected


def release_wheels(matrix: Matrix) -> dict[str, str]:
    """The wheels that a complete release has: file name → variant."""
    expected = {}
    for cuda in matrix.cudas:
        version = versions.public(matrix.version, cuda.local)
        for platform in matrix.platforms_of(cuda):
            for tag in names.release_tags(matrix, platform):
                expected[names.wheel_name(version, *tag.split("-"))] = cuda.variant
    return expected


def unit(
    wheels: Sequence[WheelFile],
    commit: Commit,
    matrix: Matrix,
    published: str,
    *,
    release: bool = False,
    reused_from: Optional[Mapping[str, str]] = None,
    sdist: Optional[tuple[str, Body]] = None,
    attachments: Sequence[Attachment] = (),
) -> Unit:
    """The complete unit of these wheels.

    reused_from: the commit that a variant's native code was taken from, by variant.
    sdist: its file name and content, of a release that has one.
    Raises IncompleteSet, and PublishError for a wheel that is not what its name says.
    """
    expected = release_wheels(matrix) if release else commit_wheels(matrix, commit)
    if commit.dirty:
        raise PublishError(
            f"the tree was not commit {commit.sha}: it had changes",
            means="what is published under a commit has to be that commit",
            do="commit the changes, build again, publish again",
        )
    _check_complete(expected, [wheel.path.name for wheel in wheels])
    for wheel in wheels:
        _check_build(wheel, commit, expected[wheel.path.name])
    _check_one_library(wheels)
    files = [_file(wheel, expected[wheel.path.name], reused_from or {}) for wheel in wheels]
    if sdist:
        files.append(_sdist(sdist[0], sdist[1], matrix.version, files[0].requires_python))
    return Unit(
        commit=commit.sha,
        number=commit.number,
        time=commit_time(commit),
        version=matrix.version,
        release=release,
        published=published,
        files=tuple(sorted(files, key=lambda file: file.name)),
        attachments=tuple(sorted(attachments, key=lambda attachment: attachment.name)),
        change=change(commit),
    )


def change(commit: Commit) -> Change:
    """What a commit did, as records have it."""
    native = [name for name in commit.changed if digest.is_input(name)]
    return Change(
        subject=line(commit.subject),
        parent=commit.parent,
        files=len(commit.changed),
        native=len(native),
        native_files=tuple(line(name) for name in native[:SHOWN]),
    )


def line(text: str) -> str:
    """`text` as one line that records take: whoever commits may write anything."""
    return "".join(c for c in " ".join(text.split()) if LINE.fullmatch(c))[:200]


def instant(time: datetime) -> str:
    """A time as records have it, to the second: ``2026-11-05T12:00:00Z``."""
    return time.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def commit_time(commit: Commit) -> str:
    return instant(datetime.fromtimestamp(commit.time, timezone.utc))


def _check_complete(expected: Mapping[str, str], given: Sequence[str]) -> None:
    missing = sorted(set(expected) - set(given))
    foreign = sorted(set(given) - set(expected))
    twice = sorted({name for name in given if given.count(name) > 1})
    problems = [
        f"{problem}: {', '.join(found)}"
        for problem, found in (
            ("missing", missing),
            ("not of this set", foreign),
            ("given twice", twice),
        )
        if found
    ]
    if problems:
        raise IncompleteSet(
            "the set of wheels is not complete; " + "; ".join(problems),
            means="a set with a variant missing is never listed; the last complete one stays",
            do="build what is missing from this commit (build --variant NAME), then publish again",
        )


def _check_build(wheel: WheelFile, commit: Commit, variant: str) -> None:
    found = (wheel.build.commit, wheel.build.variant, wheel.build.dirty)
    if found != (commit.sha, variant, False):
        raise PublishError(
            f"{wheel.path.name} was built from commit {found[0]}, variant {found[1]}"
            f"{', with changes' if found[2] else ''}; it is to be published as commit "
            f"{commit.sha}, variant {variant}",
            means="its build.json, which `vllm.__commit__` shows, would contradict its address",
            do="remove old wheels from the folder and build this commit again",
        )


def _check_one_library(wheels: Sequence[WheelFile]) -> None:
    """Variants may be compiled on different machines; a platform's host library is one file."""
    platforms: dict[str, dict[Optional[str], str]] = {}
    for wheel in wheels:
        platform = wheel.path.name.rpartition("-")[2]
        found = platforms.setdefault(platform, {})
        found[wheel.native.get(names.LIBRARY)] = wheel.path.name
        if len(found) > 1:
            listed = ", ".join(f"{digest} in {name}" for digest, name in found.items())
            raise PublishError(
                f"{names.LIBRARY} differs between wheels of one commit: {listed}",
                means="a machine that built some of them does not reproduce what the others built",
                do="build them again; `python -m ci verify WHEEL` tells which one is wrong",
            )


def _file(wheel: WheelFile, variant: str, reused_from: Mapping[str, str]) -> File:
    return File(
        name=wheel.path.name,
        version=wheel.version,
        variant=variant,
        tags=tuple(sorted(wheel.tags)),
        requires_python=wheel.requires_python or "",
        sha256=wheel.sha256,
        size=wheel.size,
        metadata_sha256=hashlib.sha256(wheel.metadata).hexdigest(),
        native_digest=wheel.build.native_digest,
        reused_from=reused_from.get(variant),
    )


def _sdist(name: str, body: Body, version: str, requires_python: str) -> File:
    if name != f"{names.PROJECT}-{version}.tar.gz":
        raise PublishError(
            f"{name} is not the sdist of version {version}",
            means="a file name always equals the metadata inside",
            do=f"build the sdist of this release: {names.PROJECT}-{version}.tar.gz",
        )
    return File(
        name=name,
        version=version,
        variant=None,
        tags=(),
        requires_python=requires_python,
        sha256=body.sha256,
        size=body.size,
        metadata_sha256=None,
        native_digest=None,
        reused_from=None,
    )
