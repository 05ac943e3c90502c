"""What of a release goes to PyPI: the default variant's wheels for every Python, then the sdist.

Only these: an index has room for one variant, and every Python is served by the abi3 wheel. The
sdist goes last. Before it is there nobody compiles for want of a wheel that is still on its way.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from ci import names
from ci.matrix import Matrix
from ci.publish import plan
from ci.release.errors import ReleaseError
from ci.wheel import reader

WHEELS, SDIST = "wheels", "sdist"  # folders, uploaded in this order


@dataclass(frozen=True)
class Upload:
    """The files of one release, each of which is what its name says."""

    wheels: tuple[Path, ...]
    sdist: Path


def select(folder: Path, released: Matrix) -> Upload:
    """What of the release in `folder` goes to PyPI.

    Raises ReleaseError where a file is missing, and for a version that PyPI must never have: a
    local one, or one that is no final release. Raises BadWheel for a damaged wheel.
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
            means="a file that PyPI lacks cannot be added later without another release",
            do="make the whole release first: python -m ci release",
        )
    for name in expected:
        wheel = reader.read(folder / name)
        check_version(wheel.version)
        if wheel.build.variant != released.default.variant or wheel.build.dirty:
            raise ReleaseError(f"{name} was built as {wheel.build.variant}, or from a dirty tree")
    return Upload(tuple(folder / name for name in sorted(expected)), folder / sdist)


def arrange(upload: Upload, out: Path) -> None:
    """Copies the files to ``out/wheels`` and ``out/sdist``, which are uploaded one after the other.

    An uploader takes whatever lies in a folder, so what was there before is removed.
    """
    for name, paths in ((WHEELS, upload.wheels), (SDIST, (upload.sdist,))):
        target = out / name
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for path in paths:
            shutil.copy2(path, target / path.name)


def check_version(text: str) -> None:
    """Raises ReleaseError for a version that must not be on PyPI."""
    version = Version(text)
    if version.local is not None:
        raise ReleaseError(
            f"{text} has a local version",
            means="PyPI takes none: it is for builds that are not the project's own",
            do="publish it in the bucket; only the default variant goes to PyPI",
        )
    if version.is_prerelease:
        raise ReleaseError(
            f"{text} is no final release",
            means="what is on PyPI stays there, and each commit's wheels are in the bucket",
        )
