"""Finds the compiler of host code: ``CXX``, or the first of c++, g++ and clang++ on ``PATH``.

It is always passed to CMake: scikit-build-core would pass the one that Python was compiled with,
which differs between Pythons.
"""

import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping, Optional, Tuple

from ci.errors import CiError

USUAL = ("c++", "g++", "clang++")


class HostCompilerError(CiError):
    """There is no C++ compiler, or it does not work."""


@dataclass(frozen=True)
class HostCompiler:
    """A working compiler."""

    words: Tuple[str, ...]  # the program, and its first options
    version: str  # the first line of its --version
    chosen_by: str  # "CXX" or "PATH"

    @property
    def command(self) -> str:
        """As a value for ``CXX``."""
        return " ".join(map(shlex.quote, self.words))

    @property
    def title(self) -> str:
        return f"{self.version}, {self.words[0]} (by {self.chosen_by})"


def find(environ: Mapping[str, str], folder: Path) -> Optional[HostCompiler]:
    """The compiler chosen by `environ`, or None if there is none.

    folder: base of a relative path in ``CXX``.
    Raises HostCompilerError for a ``CXX`` that does not work.
    """
    given, path = environ.get("CXX"), environ.get("PATH", "")
    if not given:
        found = next(filter(None, (shutil.which(name, path=path) for name in USUAL)), None)
        if found is None:
            return None
        version = _version((found,))
        return HostCompiler((found,), version or "unknown version", "PATH")
    try:
        first, *others = shlex.split(given)
    except ValueError:  # an open quotation, or nothing but spaces
        raise HostCompilerError(
            f"CXX is {given!r}, which is no command",
            means="CXX sets the compiler of host code, in the syntax of a shell",
            do="correct it, or unset it to use the c++, g++ or clang++ on PATH",
        ) from None
    if os.sep in first:
        first = str(folder / first)
    words = (shutil.which(first, path=path) or first, *others)
    version = _version(words)
    if version is None:
        raise HostCompilerError(
            f"CXX is {given!r}, and `{words[0]} --version` does not work",
            means="CXX sets the compiler of host code",
            do="correct it, or unset it to use the c++, g++ or clang++ on PATH",
        )
    return HostCompiler(words, version, "CXX")


def missing() -> HostCompilerError:
    """The error for a machine without a compiler, clearer than CMake's."""
    return HostCompilerError(
        f"no C++ compiler: none of {', '.join(USUAL)} is on PATH, and CXX is not set",
        means="the host code needs one",
        do="install one (Debian, Ubuntu: apt-get install g++), or set CXX; "
        "or build without native code: set VLLM_TARGET_DEVICE=empty",
    )


def _version(words: Tuple[str, ...]) -> Optional[str]:
    try:
        done = subprocess.run(
            [*words, "--version"], stdout=subprocess.PIPE, text=True, errors="replace"
        )
    except OSError:
        return None
    lines = done.stdout.splitlines()
    return lines[0].strip() if done.returncode == 0 and lines else None
