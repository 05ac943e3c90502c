"""The build matrix: `ci/matrix.toml` as frozen records, checked when they are read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from ci import toml
from ci.errors import CiError

ARCH = re.compile(r"\d+\.\d[af]?")  # a compute capability: "9.0", "9.0a", "10.0f"
CODE_KEYS = {"compiler", "archs", "ptx", "only"}

DEFAULT_PATH = Path(__file__).with_name("matrix.toml")


class MatrixError(CiError):
    """`matrix.toml` is unreadable, incomplete or contradicts itself."""


@dataclass(frozen=True)
class Pin:
    """A wheel of a CUDA toolkit, pinned for pip's hash-checking mode."""

    project: str
    version: str
    sha256: str

    @property
    def requirement(self) -> str:
        return f"{self.project}=={self.version}"


@dataclass(frozen=True)
class Toolkit:
    """A compiler of device code: NVRTC of one CUDA version, with its headers."""

    version: str  # "12.9"
    pins: tuple[Pin, ...]


@dataclass(frozen=True)
class Code:
    """The code that one compiler generates for a variant."""

    toolkit: Toolkit
    archs: tuple[str, ...]  # compute capabilities with a cubin: "8.0", "9.0a"
    ptx: tuple[str, ...]  # compute capabilities with PTX
    processors: tuple[str, ...]  # whose wheels contain it


@dataclass(frozen=True)
class Platform:
    """A platform that wheels are built for."""

    processor: str  # "x86_64", as `platform.machine` names it
    tag: str  # "manylinux1_x86_64"
    policy: str  # what auditwheel must say
    zig_target: str
    per_python: bool  # whether a release has a wheel for each Python, besides the abi3 wheel


@dataclass(frozen=True)
class Cuda:
    """One CUDA version that is shipped; a wheel made for it is a *variant*."""

    version: str  # "12.1"
    default: bool
    on_request: bool  # every release has it, a commit only if it was requested
    torch: str  # the specifier of METADATA's torch requirement
    code: tuple[Code, ...]
    budgets: Mapping[str, int] = field(hash=False)  # processor → maximum bytes of a wheel

    @property
    def toolkits(self) -> tuple[Toolkit, ...]:
        """The compilers of its device code, oldest first."""
        found = {code.toolkit.version: code.toolkit for code in self.code}
        return tuple(sorted(found.values(), key=lambda toolkit: numbers(toolkit.version)))

    def pins(self, processor: str) -> tuple[Pin, ...]:
        """The toolkit wheels of all compilers whose code is in wheels for `processor`."""
        used = {code.toolkit for code in self.code if processor in code.processors}
        return tuple(pin for toolkit in self.toolkits if toolkit in used for pin in toolkit.pins)

    def archs(self, processor: str) -> tuple[str, ...]:
        """The compute capabilities that wheels for `processor` have a cubin for."""
        return _sorted(code.archs for code in self.code if processor in code.processors)

    def ptx(self, processor: str) -> tuple[str, ...]:
        """The compute capabilities that wheels for `processor` have PTX for."""
        return _sorted(code.ptx for code in self.code if processor in code.processors)

    @property
    def variant(self) -> str:
        """The name of indexes and folders: ``cu121``."""
        return "cu" + self.version.replace(".", "")

    @property
    def local(self) -> Optional[str]:
        """The local version of its wheels; None for the default variant."""
        return None if self.default else self.variant


@dataclass(frozen=True)
class TorchTrial:
    """A version of torch that the ops are tested with, and the Python to install it for."""

    version: str
    python: str


@dataclass(frozen=True)
class Matrix:
    """All of `matrix.toml`."""

    version: str  # of the newest release; wheels of main have it too
    tag: str  # commits are numbered from here
    abi3: str
    pythons: tuple[str, ...]
    trial_pythons: tuple[str, ...]
    torch_python: str
    torch_version: str
    torch_trials: tuple[TorchTrial, ...]
    platforms: tuple[Platform, ...]  # the first is the one that this tool itself runs on
    nightlies: int
    toolkits: Mapping[str, Toolkit]  # by version
    cudas: tuple[Cuda, ...]

    @property
    def default(self) -> Cuda:
        return next(cuda for cuda in self.cudas if cuda.default)

    @property
    def main(self) -> Platform:
        """The platform that every variant has wheels for."""
        return self.platforms[0]

    def platforms_of(self, cuda: Cuda) -> tuple[Platform, ...]:
        """The platforms that there are wheels of `cuda` for."""
        return tuple(each for each in self.platforms if each.processor in cuda.budgets)

    def of_commit(self, also: Sequence[str] = ()) -> Matrix:
        """The matrix for a commit: without the variants on request, except those in `also`.

        Raises MatrixError for an unknown name.
        """
        asked = [self.variant(name) for name in also]
        chosen = [cuda for cuda in self.cudas if not cuda.on_request or cuda in asked]
        return replace(self, cudas=tuple(chosen))

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
    platforms = tuple(
        Platform(
            processor=entry["processor"],
            tag=entry["tag"],
            policy=entry["policy"],
            zig_target=entry["zig_target"],
            per_python=entry["per_python"],
        )
        for entry in table["platform"]
    )
    toolkits = {name: _toolkit(name, pins) for name, pins in table["compiler"].items()}
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
        platforms=platforms,
        nightlies=table["retention"]["nightlies"],
        toolkits=toolkits,
        cudas=tuple(_cuda(entry, toolkits) for entry in table["cuda"]),
    )
    _check(matrix)
    return matrix


def _toolkit(version: str, pins: Mapping[str, Any]) -> Toolkit:
    return Toolkit(
        version,
        tuple(Pin(name, pin["version"], pin["sha256"]) for name, pin in sorted(pins.items())),
    )


def _cuda(entry: Mapping[str, Any], toolkits: Mapping[str, Toolkit]) -> Cuda:
    budgets = {name: mib * 1024 * 1024 for name, mib in entry["budget_mib"].items()}
    return Cuda(
        version=entry["version"],
        default=entry.get("default", False),
        on_request=entry.get("on_request", False),
        torch=entry["torch"],
        code=tuple(_code(code, toolkits, tuple(budgets)) for code in entry["code"]),
        budgets=budgets,
    )


def _code(
    entry: Mapping[str, Any], toolkits: Mapping[str, Toolkit], processors: tuple[str, ...]
) -> Code:
    if entry["compiler"] not in toolkits:
        raise MatrixError(
            f"`code` names compiler {entry['compiler']!r}, which has no table",
            do=f'add [compiler."{entry["compiler"]}"], or use one of: {", ".join(toolkits)}',
        )
    unknown = entry.keys() - CODE_KEYS
    if unknown:
        raise MatrixError(
            f"`code` has {', '.join(sorted(unknown))}",
            do=f"an entry of `code` may have: {', '.join(sorted(CODE_KEYS))}",
        )
    return Code(
        toolkit=toolkits[entry["compiler"]],
        archs=_archs(entry["archs"]),
        ptx=_archs(entry.get("ptx", [])),
        processors=(entry["only"],) if "only" in entry else processors,
    )


def _archs(listed: Any) -> tuple[str, ...]:
    """A list of compute capabilities. Raises MatrixError if it is anything else."""
    items = listed if isinstance(listed, list) else [listed]
    wrong = [each for each in items if not (isinstance(each, str) and ARCH.fullmatch(each))]
    if wrong or items is not listed:
        raise MatrixError(
            f"`code` has {wrong or listed!r} for architectures",
            do='write a list of compute capabilities, such as ["9.0", "9.0a", "10.0f"]',
        )
    return tuple(items)


def _check(matrix: Matrix) -> None:
    defaults = [cuda.version for cuda in matrix.cudas if cuda.default]
    if len(defaults) != 1:
        raise MatrixError(f"exactly one [[cuda]] entry must be the default, found: {defaults}")
    if matrix.default.on_request:
        raise MatrixError(
            f"CUDA {defaults[0]} is the default and on request",
            means="`nightly/` and `pip install vllm` always have the default variant",
            do="remove `on_request` from its entry",
        )
    variants = [cuda.variant for cuda in matrix.cudas]
    if len(set(variants)) != len(variants):
        raise MatrixError(f"two [[cuda]] entries have the same version: {variants}")
    known = [platform.processor for platform in matrix.platforms]
    for cuda in matrix.cudas:
        named = {*cuda.budgets, *(each for code in cuda.code for each in code.processors)}
        if not named <= set(known) or matrix.main.processor not in cuda.budgets:
            raise MatrixError(
                f"CUDA {cuda.version} is for {', '.join(sorted(named))}",
                means=f"the platforms are {', '.join(known)}, and every variant is for the first",
            )
        for processor in cuda.budgets:
            _check_code(cuda, processor)
    try:
        version = Version(matrix.version)
        for cuda in matrix.cudas:
            SpecifierSet(cuda.torch)
    except (InvalidVersion, InvalidSpecifier) as error:
        raise MatrixError(str(error)) from error
    if str(version) != matrix.version or matrix.tag != f"v{matrix.version}":
        raise MatrixError(f"tag {matrix.tag!r} is not the tag of version {matrix.version!r}")


def _check_code(cuda: Cuda, processor: str) -> None:
    """Checks that one compiler generates the code of each arch."""
    made = [code for code in cuda.code if processor in code.processors]
    if not any(code.archs for code in made):
        raise MatrixError(f"CUDA {cuda.version}, {processor}: no architecture has code")
    for kind in ([code.archs for code in made], [code.ptx for code in made]):
        listed = [arch for archs in kind for arch in archs]
        twice = sorted({arch for arch in listed if listed.count(arch) > 1})
        if twice:
            raise MatrixError(f"CUDA {cuda.version}, {processor}: two compilers for {twice}")


def numbers(version: str) -> tuple[int, ...]:
    """``(9, 0)`` for ``9.0`` and ``9.0a``: the sort key of versions and compute capabilities."""
    return tuple(int(part) for part in version.rstrip("abcdef").split("."))


def _sorted(groups: Iterable[Sequence[str]]) -> tuple[str, ...]:
    found = {arch for group in groups for arch in group}
    return tuple(sorted(found, key=lambda arch: (numbers(arch), arch)))
