"""Collects wheels that several machines built: the complete set, or nothing."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from ci.publish.errors import Conflict, IncompleteSet
from ci.wheel import symbols


def collect(
    cells: Path, names: Iterable[str], out: Path, *, with_symbols: bool = False
) -> list[Path]:
    """Copies the wheels in `names`, from anywhere below `cells`, to `out`.

    with_symbols: copy all debug symbols, too. Other files are ignored. Raises IncompleteSet, naming
    missing wheels, and Conflict if two machines built different files of the same name; then
    nothing is copied.
    """
    found = {name: sorted(cells.rglob(name)) for name in names}
    if with_symbols:
        for path in cells.rglob(f"{symbols.FOLDER}/*/{symbols.NAME}"):
            found.setdefault(symbols.name_of(path.parent.name), []).append(path)
    missing = sorted(name for name, paths in found.items() if not paths)
    if missing:
        raise IncompleteSet(
            f"not below {cells}: {', '.join(missing)}",
            means="a machine has not delivered its part of the set, or built another commit",
            do="build the missing variants of this commit (--variant), and collect again",
        )
    for name, paths in found.items():
        digests = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in paths}
        if len(digests) > 1:
            listed = "".join(f"\n    {digest}  {path}" for digest, path in digests.items())
            raise Conflict(
                f"{name} was built more than once, with different bits:{listed}",
                means="two machines built this commit differently; nothing is published",
                do="find the first difference: python -m ci size A B, python -m ci verify A",
            )
    return [_copy(paths[0], out / name) for name, paths in found.items()]


def _copy(source: Path, target: Path) -> Path:
    if source.resolve() != target.resolve():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return target
