"""Decides whether ccache is used, and reports its hits.

ccache only saves time, so a broken one must not fail a build: it is tried first.
"""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping, Optional, Sequence, Tuple

OLDEST = (4, 4)  # the first with CCACHE_STATSLOG


@dataclass(frozen=True)
class Ccache:
    """The ccache to use (None: no caching), and the reason."""

    program: Optional[Path]
    reason: str


def find(environ: Mapping[str, str], compiler: Sequence[str]) -> Ccache:
    """The ccache on ``PATH``, if it works.

    compiler: the command of a C++ compiler to try it with; empty if there is none.
    """
    path = shutil.which("ccache", path=environ.get("PATH", ""))
    if path is None:
        return Ccache(None, "no ccache on PATH")
    fails, said = _run([path, "--version"], environ, ".")
    found = re.search(r"version (\d+)\.(\d+)", said)
    if fails or found is None:
        return Ccache(None, f"{path} is not used: it does not work: {said}")
    if (int(found[1]), int(found[2])) < OLDEST:
        return Ccache(None, f"{path} is not used: it is older than 4.4")
    complaint = _complaint(path, compiler, environ) if compiler else ""
    if complaint:
        return Ccache(None, f"{path} is not used: it does not work: {complaint}")
    off = "; switched off by CCACHE_DISABLE" if environ.get("CCACHE_DISABLE") else ""
    return Ccache(Path(path), f"{path}, for host and device code{off}")


def _complaint(path: str, compiler: Sequence[str], environ: Mapping[str, str]) -> str:
    """The error of ccache for a file that `compiler` alone compiles; empty if it works."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "empty.cpp").touch()
        command = [*compiler, "-c", "empty.cpp", "-o", "empty.o"]
        fails, said = _run([path, *command], environ, folder)
        return said if fails and not _run(command, environ, folder)[0] else ""


def _run(command: Sequence[str], environ: Mapping[str, str], folder: str) -> Tuple[bool, str]:
    """Whether a program fails, and its output in one line."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        return True, str(error)
    words = " ".join(done.stdout.split()) or f"exit status {done.returncode} without output"
    return done.returncode != 0, words


def summary(log: Path) -> str:
    """Counts ccache's hits in a build, from its log (``CCACHE_STATSLOG``).

    The log has, per compilation, a line with the source's name, then the counters that it
    incremented.
    """
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return "no compilation used it"
    except OSError as error:
        return f"its log cannot be read: {error}"
    entries = [entry.split() for entry in text.split("# ")[1:]]
    hits = sum(any(word.endswith("_cache_hit") for word in entry) for entry in entries)
    misses = sum("cache_miss" in entry for entry in entries)
    counted = f"{hits} of {len(entries)} compilations were hits"
    others = len(entries) - hits - misses
    return counted + (f", {others} could not be cached (see {log})" if others else "")
