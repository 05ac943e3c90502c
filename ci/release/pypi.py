"""Selects the files for PyPI: the default variant's abi3 wheels, then the sdist.

An index can serve only one variant, and the abi3 wheel serves every Python. The sdist is uploaded
last, so that nobody compiles it because a wheel is not there yet.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from ci import names, scratch
from ci.matrix import Matrix
from ci.publish import plan
from ci.release.errors import ReleaseError
from ci.wheel import reader

WHEELS, SDIST = "wheels", "sdist"  # folders, uploaded in this order


@dataclass(frozen=True)
class Upload:
    """The checked files of one release."""

    wheels: tuple[Path, ...]
    sdist: Path


def select(folder: Path, released: Matrix) -> Upload:
    """The files of the release in `folder` that go to PyPI.

    Raises ReleaseError if a file is missing, or the version must not be on PyPI: a local one or a
    pre-release. Raises BadWheel for a damaged wheel.
    """
    check_version(released.version)
    expected = [
        name
        for name, variant in plan.release_wheels(released).items()
        if variant == released.default.variant and "-abi3-" in name
    ]
    sdist = f"{names.PROJECT}-{released.version}.tar.gz"
    missing = [name for name in (*expected, sdist) if not (folder / name).is_file()]
    if missing:
        raise ReleaseError(
            f"not in {folder}: {', '.join(missing)}",
            means="an incomplete release on PyPI should not be completed later",
            do="build the whole release first: python -m ci release",
        )
    for name in expected:
        wheel = reader.read(folder / name)
        check_version(wheel.version)
        if wheel.build.variant != released.default.variant or wheel.build.dirty:
            raise ReleaseError(
                f"{name} was built as {wheel.build.variant}"
                f"{', from a tree with uncommitted changes' if wheel.build.dirty else ''}",
                means="PyPI gets only the default variant, built from its commit",
                do="build the release again: python -m ci release",
            )
    return Upload(tuple(folder / name for name in sorted(expected)), folder / sdist)


def arrange(upload: Upload, out: Path) -> None:
    """Copies the files to ``out/wheels`` and ``out/sdist``, to be uploaded in this order.

    An uploader takes every file of a folder, so older files are removed first.
    """
    for name, paths in ((WHEELS, upload.wheels), (SDIST, (upload.sdist,))):
        target = out / name
        scratch.remove(target)
        target.mkdir(parents=True)
        for path in paths:
            shutil.copy2(path, target / path.name)


def check_version(text: str) -> None:
    """Raises ReleaseError for a version that must not be on PyPI."""
    version = Version(text)
    if version.local is not None:
        raise ReleaseError(
            f"{text} has a local version",
            means="PyPI rejects local versions",
            do="publish it in the bucket; only the default variant goes to PyPI",
        )
    if version.is_prerelease:
        raise ReleaseError(
            f"{text} is not a final release",
            means="files on PyPI are permanent; wheels of every commit are in the bucket",
        )
