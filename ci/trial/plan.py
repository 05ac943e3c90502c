"""Plans the trials: a pure function of the matrix and the commit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from packaging.specifiers import SpecifierSet

from ci import names, versions
from ci.matrix import Cuda, Matrix
from ci.wheel.reader import WheelFile


@dataclass(frozen=True)
class Offer:
    """A documented URL, and what it must install."""

    title: str  # "nightly +cu118"
    url: str
    commit: str
    wheel: WheelFile
    takes_torch: bool  # whether METADATA's torch range allows the torch of trials


@dataclass(frozen=True)
class Trial:
    """One installation to try; if the interpreter is missing, it is reported as not tested."""

    python: str  # "3.8"
    interpreter: Optional[Path]
    offer: Offer
    with_dependencies: bool


def offers(
    matrix: Matrix, base: str, commit: str, wheels: Iterable[WheelFile]
) -> tuple[Offer, ...]:
    """The documented URLs of a commit: the one in nightly/ and the commit's own, per variant.

    A variant on request is not in nightly/.
    """
    by_name = {wheel.path.name: wheel for wheel in wheels}
    found = []
    for cuda in sorted(matrix.cudas, key=lambda cuda: not cuda.default):
        name = names.abi3_wheel_name(matrix, versions.public(matrix.version, cuda.local))
        alias = [] if cuda.on_request else [("nightly", names.nightly_key(name))]
        for channel, key in (*alias, ("commit", names.commit_key(commit, name))):
            title = f"{channel} {cuda.variant}"
            url = names.documented_url(base, key)
            found.append(Offer(title, url, commit, by_name[name], _takes_torch(matrix, cuda)))
    return tuple(found)


def trials(
    matrix: Matrix, interpreters: Mapping[str, Optional[Path]], offered: Iterable[Offer]
) -> tuple[Trial, ...]:
    """Every interpreter with every URL. One interpreter gets torch, if the range allows it."""
    offered = tuple(offered)
    return tuple(
        Trial(
            python, interpreters[python], offer, python == matrix.torch_python and offer.takes_torch
        )
        for python in matrix.trial_pythons
        for offer in offered
    )


def _takes_torch(matrix: Matrix, cuda: Cuda) -> bool:
    return matrix.torch_version in SpecifierSet(cuda.torch)
