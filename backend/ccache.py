"""ccache, where the machine has one: whether it is used, and what it had of a build.

It only saves time, so nothing that is wrong with it may stop a build: it is tried first.
"""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping, Optional, Sequence, Tuple

OLDEST = (4, 4)  # the first that can write down what it did for one build


@dataclass(frozen=True)
class Ccache:
    """What CMake is told (`program` is None where nothing is to be cached), and why."""

    program: Optional[Path]
    reason: str


def find(environ: Mapping[str, str], compiler: Sequence[str]) -> Ccache:
    """The ccache on ``PATH``, as `which ccache` finds it, if it works.

    compiler: the words of one that compiles C++, to try it with; none where there is none.
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
    """What ccache says instead of compiling a file that `compiler` compiles; else nothing."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "empty.cpp").touch()
        command = [*compiler, "-c", "empty.cpp", "-o", "empty.o"]
        fails, said = _run([path, *command], environ, folder)
        return said if fails and not _run(command, environ, folder)[0] else ""


def _run(command: Sequence[str], environ: Mapping[str, str], folder: str) -> Tuple[bool, str]:
    """Whether a program fails, and its words in one line."""
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
    words = " ".join(done.stdout.split()) or f"exit status {done.returncode}, without a word"
    return done.returncode != 0, words


def summary(log: Path) -> str:
    """How many compilations ccache had done before, from what it wrote down (``CCACHE_STATSLOG``).

    Each compilation is a line with the source's name, then one for each counter that it raised.
    """
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return "nothing was compiled through it"
    except OSError as error:
        return f"what it did is not known: {error}"
    entries = [entry.split() for entry in text.split("# ")[1:]]
    hits = sum(any(word.endswith("_cache_hit") for word in entry) for entry in entries)
    misses = sum("cache_miss" in entry for entry in entries)
    counted = f"{hits} of {len(entries)} compilations were hits"
    others = len(entries) - hits - misses
    return counted + (f", {others} could not be cached (see {log})" if others else "")
