"""Files derived from a commit's wheels and published beside them: scripts, locks, symbols."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Sequence

from ci import names, pylock
from ci.git import Commit
from ci.matrix import Matrix
from ci.publish.errors import IncompleteSet, PublishError
from ci.scripts.published import published
from ci.store import Body
from ci.wheel import symbols

if TYPE_CHECKING:
    from ci.wheel.reader import WheelFile

Wheel = tuple[str, str, int]  # file name, sha256, bytes


def of_commit(wheels: Sequence[WheelFile], commit: Commit, matrix: Matrix) -> dict[str, Body]:
    """File name → content, which depends only on the arguments."""
    found = {name: Body.of(data) for name, data in published(commit.sha).items()}
    for cuda in matrix.cudas:
        documented = tuple(
            (wheel.path.name, wheel.sha256, wheel.size)
            for wheel in wheels
            if wheel.build.variant == cuda.variant and ".dev" not in wheel.version
        )
        if documented:
            found.update(_locks(cuda.variant, matrix.trial_pythons, commit.sha, documented))
    return found


def symbols_of(wheels: Sequence[WheelFile]) -> dict[str, Body]:
    """Path below the commit's folder → debug symbols, for every library with a build-id.

    Raises IncompleteSet if they are not beside the wheel, and PublishError if they belong to
    another library.
    """
    libraries = {wheel.native.get(names.LIBRARY): wheel.path for wheel in wheels}
    found = {}
    for path in libraries.values():
        build_id = symbols.build_id_of(path)
        if build_id is None:
            continue
        name = symbols.name_of(build_id)
        file = path.parent / name
        if not file.is_file():
            raise IncompleteSet(
                f"debug symbols are missing: {name} beside {path.name}",
                means="the wheel was moved without them, or built by hand",
                do="build the commit again, or copy the folder `buildid` to its wheels",
            )
        if symbols.build_id(file.read_bytes()) != build_id:
            raise PublishError(
                f"{file} has the symbols of another library",
                means=f"a debugger needs those of build-id {build_id}, and would reject the file",
                do="remove it, and build the commit again",
            )
        found[name] = Body.file(file)
    return found


@functools.lru_cache(maxsize=16)
def _locks(
    variant: str, pythons: tuple[str, ...], commit: str, wheels: tuple[Wheel, ...]
) -> dict[str, Body]:
    """A variant's lock files, one for each resolved Python, and its constraints file."""
    version = wheels[0][0].split("-")[1]
    own = [
        {
            "url": names.url(names.BASE, names.commit_key(commit, name)),
            "size": size,
            "hashes": {"sha256": sha256},
        }
        for name, sha256, size in wheels
    ]
    resolved = {python: pylock.read(variant, python) for python in pythons}
    locks = {python: locked for python, locked in resolved.items() if locked is not None}
    found = {
        pylock.lock_name(variant, python): pylock.with_wheels(locked, commit, version, own)
        for python, locked in locks.items()
    }
    if locks:
        found[pylock.constraints_name(variant)] = pylock.constraints(locks)
    return {name: Body.of(data) for name, data in found.items()}
