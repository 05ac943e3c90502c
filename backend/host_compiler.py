"""The compiler of host code: ``CXX``, or the first of the usual ones on ``PATH``.

Named to CMake in any case: scikit-build-core would name the one that the Python was compiled with,
and another Python another one.
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
    """No compiler of C++, or one that does not answer."""


@dataclass(frozen=True)
class HostCompiler:
    """A compiler that answers."""

    words: Tuple[str, ...]  # the program, and options that go before all others
    version: str  # the first line that it says of itself
    chosen_by: str  # "CXX" or "PATH"

    @property
    def command(self) -> str:
        """As ``CXX`` has it."""
        return " ".join(map(shlex.quote, self.words))

    @property
    def title(self) -> str:
        return f"{self.version}, {self.words[0]} (by {self.chosen_by})"


def find(environ: Mapping[str, str], folder: Path) -> Optional[HostCompiler]:
    """The compiler that `environ` leads to, None if there is none.

    folder: where a relative path in ``CXX`` begins.
    Raises HostCompilerError for a ``CXX`` that does not answer.
    """
    given, path = environ.get("CXX"), environ.get("PATH", "")
    if not given:
        found = next(filter(None, (shutil.which(name, path=path) for name in USUAL)), None)
        if found is None:
            return None
        version = _version((found,))
        return HostCompiler((found,), version or "of a version that it does not say", "PATH")
    first, *others = shlex.split(given)
    if os.sep in first:
        first = str(folder / first)
    words = (shutil.which(first, path=path) or first, *others)
    version = _version(words)
    if version is None:
        raise HostCompilerError(
            f"CXX is {given!r}, and `{words[0]} --version` does not work",
            means="CXX names the compiler of host code",
            do="correct it, or unset it: then the c++, g++ or clang++ on PATH is used",
        )
    return HostCompiler(words, version, "CXX")


def missing() -> HostCompilerError:
    """For a machine without any, before CMake says so in its own way."""
    return HostCompilerError(
        f"no C++ compiler: none of {', '.join(USUAL)} is on PATH, and CXX is not set",
        means="the host code is compiled by one",
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
