"""The build matrix: `ci/matrix.toml` as frozen records, checked when they are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from ci import toml
from ci.errors import CiError

DEFAULT_PATH = Path(__file__).with_name("matrix.toml")


class MatrixError(CiError):
    """`matrix.toml` is unreadable, incomplete or contradicts itself."""


@dataclass(frozen=True)
class Pin:
    """One wheel of a CUDA toolkit, as pip's hash-checking mode wants it."""

    project: str
    version: str
    sha256: str

    @property
    def requirement(self) -> str:
        return f"{self.project}=={self.version}"


@dataclass(frozen=True)
class Cuda:
    """One CUDA version that is shipped; a wheel made for it is a *variant*."""

    version: str  # "12.1"
    default: bool
    torch: str  # the specifier of METADATA's torch requirement
    archs: tuple[str, ...]  # compute capabilities that get a cubin: "8.0", "9.0a"
    ptx: tuple[str, ...]  # compute capabilities that get PTX
    wheel_budget: int  # bytes
    toolkit: tuple[Pin, ...]

    @property
    def variant(self) -> str:
        """The name of indexes and folders: ``cu121``."""
        return "cu" + self.version.replace(".", "")

    @property
    def local(self) -> Optional[str]:
        """The local version its wheels carry: None for the default variant."""
        return None if self.default else self.variant


@dataclass(frozen=True)
class TorchTrial:
    """A torch, and the Python to install it for, that the ops are tested with."""

    version: str
    python: str


@dataclass(frozen=True)
class Matrix:
    """All of `matrix.toml`."""

    version: str  # of the newest release, which main carries too
    tag: str  # commits are numbered from here
    abi3: str
    pythons: tuple[str, ...]
    trial_pythons: tuple[str, ...]
    torch_python: str
    torch_version: str
    torch_trials: tuple[TorchTrial, ...]
    platform_tag: str
    policy: str
    zig_target: str
    nightlies: int
    cudas: tuple[Cuda, ...]

    @property
    def default(self) -> Cuda:
        return next(cuda for cuda in self.cudas if cuda.default)

    def variant(self, name: str) -> Cuda:
        """The entry called `name` (``cu118``). Raises MatrixError if there is none."""
        for cuda in self.cudas:
            if cuda.variant == name:
                return cuda
        known = ", ".join(cuda.variant for cuda in self.cudas)
        raise MatrixError(
            f"unknown variant {name!r}",
            means="ci/matrix.toml has no CUDA version of that name",
            do=f"use one of: {known}",
        )


def load(path: Path = DEFAULT_PATH) -> Matrix:
    """Reads the matrix. Raises MatrixError naming the file and what is wrong in it."""
    try:
        return parse(toml.read(path))
    except (OSError, toml.TomlError) as error:
        raise MatrixError(
            f"{path}: {error}", do="restore the file: git checkout ci/matrix.toml"
        ) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise MatrixError(f"{path}: missing or misplaced key: {error}") from error


def parse(table: dict[str, Any]) -> Matrix:
    """The matrix of a parsed TOML table; raises MatrixError for contradictions in it."""
    matrix = Matrix(
        version=table["release"]["version"],
        tag=table["release"]["tag"],
        abi3=table["python"]["abi3"],
        pythons=tuple(table["python"]["versions"]),
        trial_pythons=tuple(table["python"]["trial"]),
        torch_python=table["python"]["trial_with_torch"]["python"],
        torch_version=table["python"]["trial_with_torch"]["torch"],
        torch_trials=tuple(
            TorchTrial(entry["version"], entry["python"]) for entry in table["torch"]
        ),
        platform_tag=table["platform"]["tag"],
        policy=table["platform"]["policy"],
        zig_target=table["platform"]["zig_target"],
        nightlies=table["retention"]["nightlies"],
        cudas=tuple(_cuda(entry) for entry in table["cuda"]),
    )
    _check(matrix)
    return matrix


def _cuda(entry: dict[str, Any]) -> Cuda:
    return Cuda(
        version=entry["version"],
        default=entry.get("default", False),
        torch=entry["torch"],
        archs=tuple(entry["archs"]),
        ptx=tuple(entry["ptx"]),
        wheel_budget=entry["wheel_budget_mib"] * 1024 * 1024,
        toolkit=tuple(
            Pin(project, pin["version"], pin["sha256"])
            for project, pin in sorted(entry["toolkit"].items())
        ),
    )


def _check(matrix: Matrix) -> None:
    defaults = [cuda.version for cuda in matrix.cudas if cuda.default]
    if len(defaults) != 1:
        raise MatrixError(f"exactly one [[cuda]] entry must be the default, found: {defaults}")
    variants = [cuda.variant for cuda in matrix.cudas]
    if len(set(variants)) != len(variants):
        raise MatrixError(f"two [[cuda]] entries have the same version: {variants}")
    try:
        version = Version(matrix.version)
        for cuda in matrix.cudas:
            SpecifierSet(cuda.torch)
    except (InvalidVersion, InvalidSpecifier) as error:
        raise MatrixError(str(error)) from error
    if str(version) != matrix.version or matrix.tag != f"v{matrix.version}":
        raise MatrixError(f"tag {matrix.tag!r} is not the tag of version {matrix.version!r}")
