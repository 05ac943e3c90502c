"""The native digest: a hash of all inputs of a wheel's native files (design D5).

Two trees with the same digest compile to the same bits, so one may reuse the other's native files.
A digest that missed an input would allow wrong reuse, so it covers whole folders.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional

from ci import toml
from ci.errors import CiError
from ci.matrix import Cuda, Matrix, Platform

# Sources, the build's own code, and what computes its options.
TREES = ("csrc", "cmake", "backend")
FILES = ("CMakeLists.txt", "ci/native.py", "ci/builder/canonical.py")
# Programs that determine the bits, pinned in requirements/ci.txt: zig is the compiler, CMake and
# scikit-build-core choose flags.
PROGRAMS = ("ziglang", "cmake", "scikit-build-core")
REQUIREMENTS = "requirements/ci.txt"


class DigestError(CiError):
    """An input of the native code cannot be found."""


def native_digest(
    root: Path, matrix: Matrix, cuda: Cuda, platform: Optional[Platform] = None
) -> str:
    """``sha256:…`` of the native inputs of one variant, in the source tree at `root`.

    platform: by default the main one.
    """
    return combine(inputs(root, matrix, cuda, platform))


def inputs(
    root: Path, matrix: Matrix, cuda: Cuda, platform: Optional[Platform] = None
) -> dict[str, str]:
    """Every input by name, with a hash of its content."""
    platform = platform or matrix.main
    found = {
        f"file {path.relative_to(root).as_posix()}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in _files(root)
    }
    found["build settings"] = _canonical(_settings(root))
    found["target"] = platform.zig_target
    # Not its budget or its torch requirement, which change no native file.
    code = [asdict(code) for code in cuda.code if platform.processor in code.processors]
    found["cuda"] = _canonical({"version": cuda.version, "code": code})
    found.update(_programs(root))
    return found


def is_input(name: str) -> bool:
    """Whether a file of the repository can change native code; the matrix and pins count too."""
    return name in (*FILES, REQUIREMENTS, "ci/matrix.toml", "pyproject.toml") or name.startswith(
        tuple(f"{tree}/" for tree in TREES)
    )


def combine(found: dict[str, str]) -> str:
    """The digest of named inputs."""
    return "sha256:" + hashlib.sha256(_canonical(found).encode()).hexdigest()


def _files(root: Path) -> Iterator[Path]:
    for name in FILES:
        if not (root / name).is_file():
            raise DigestError(
                f"{root / name} is not there", means="it is an input of the native code"
            )
        yield root / name
    for tree in TREES:
        files = [
            path
            for path in sorted((root / tree).rglob("*"))
            if path.is_file() and path.suffix != ".pyc"
        ]
        if not files:
            raise DigestError(
                f"{root / tree} holds nothing", means="it is an input of the native code"
            )
        yield from files


def _settings(root: Path) -> Any:
    """The settings of pyproject.toml that affect compiling, without metadata and sdist."""
    settings = toml.read(root / "pyproject.toml")["tool"]["scikit-build"]
    return {key: value for key, value in settings.items() if key not in ("metadata", "sdist")}


def program_versions(root: Path) -> dict[str, str]:
    """The pinned version of each program that determines the bits."""
    return {
        name.partition(" ")[2]: re.split(r"[ ;]", pin.partition("==")[2], maxsplit=1)[0]
        for name, pin in _programs(root)
    }


def _programs(root: Path) -> Iterator[tuple[str, str]]:
    text = (root / REQUIREMENTS).read_text(encoding="utf-8")
    for program in PROGRAMS:
        # A pin may be split by Python version: all of its lines count, with their hashes.
        pins = re.findall(rf"^{program}==(?:.*\\\n)*.*$", text, re.MULTILINE)
        if not pins:
            raise DigestError(f"{REQUIREMENTS} does not pin {program}")
        yield f"program {program}", "\n".join(pins)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
