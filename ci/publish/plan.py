"""Makes a complete unit of wheels, or refuses them; pure functions."""

from __future__ import annotations

import hashlib
import re
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


SHOWN = 20  # changed native files listed by name
LATEST = 253402300799  # 9999-12-31T23:59:59Z, in seconds since 1970
# A terminal's escape sequences: ECMA-48, 5.4.
COLOUR = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
NO_TEXT = re.compile(r"[\ud800-\udfff]")  # how Python reads a byte that is not UTF-8


def commit_wheels(matrix: Matrix, commit: Commit) -> dict[str, str]:
    """File name → variant, for the wheels of a complete commit."""
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
    """File name → variant, for the wheels of a complete release."""
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

    reused_from: variant → the commit that compiled its native code.
    sdist: file name and content, for a release that has one.
    Raises IncompleteSet, and PublishError for a wheel that contradicts its name.
    """
    expected = release_wheels(matrix) if release else commit_wheels(matrix, commit)
    if commit.dirty:
        raise PublishError(
            f"the tree had uncommitted changes to {commit.sha}",
            means="files published under a commit must be built from it",
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
    """What a commit changed, for its manifest."""
    native = [name for name in commit.changed if digest.is_input(name)]
    return Change(
        subject=line(commit.subject),
        parent=commit.parent,
        files=len(commit.changed),
        native=len(native),
        native_files=tuple(line(name) for name in native[:SHOWN]),
    )


def line(text: str, longest: int = 200) -> str:
    """`text` as one line that is valid in records.

    Commit messages may hold anything, and so may what a compiler prints, colours among it. Bytes
    that are no text become U+FFFD.
    """
    text = NO_TEXT.sub("\ufffd", COLOUR.sub("", text))
    words = ("".join(filter(LINE.fullmatch, word)) for word in text.split())
    return " ".join(filter(None, words))[:longest]


def instant(time: datetime) -> str:
    """A time in the format of records: ``2026-11-05T12:00:00Z``."""
    return time.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def commit_time(commit: Commit) -> str:
    # git takes any number of seconds.
    return instant(datetime.fromtimestamp(min(max(commit.time, 0), LATEST), timezone.utc))


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
            means="an incomplete set is never listed; the last complete one stays",
            do="build the missing wheels of this commit (build --variant NAME), then publish again",
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
    """Checks that all wheels of a platform have the same host library, wherever they were built."""
    platforms: dict[str, dict[Optional[str], str]] = {}
    for wheel in wheels:
        platform = wheel.path.name.rpartition("-")[2]
        found = platforms.setdefault(platform, {})
        found[wheel.native.get(names.LIBRARY)] = wheel.path.name
        if len(found) > 1:
            listed = ", ".join(f"{digest} in {name}" for digest, name in found.items())
            raise PublishError(
                f"{names.LIBRARY} differs between wheels of one commit: {listed}",
                means="the machines that built them do not reproduce each other's builds",
                do="build them again; `python -m ci verify WHEEL` shows which one is wrong",
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
            means="the file name must match the metadata",
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
