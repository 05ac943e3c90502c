"""ccache, where the machine has one: whether it is used, and what it had of a build."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping, Optional

OLDEST = (4, 4)  # the first that can write down what it did for one build


@dataclass(frozen=True)
class Ccache:
    """What CMake is told (`program` is None where nothing is to be cached), and why."""

    program: Optional[Path]
    reason: str


def find(environ: Mapping[str, str]) -> Ccache:
    """The ccache on ``PATH``, as `which ccache` finds it."""
    path = shutil.which("ccache", path=environ.get("PATH", ""))
    if path is None:
        return Ccache(None, "no ccache on PATH")
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version (\d+)\.(\d+)", said)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if version < OLDEST:
        return Ccache(None, f"{path} is not used: it is older than 4.4")
    off = "; switched off by CCACHE_DISABLE" if environ.get("CCACHE_DISABLE") else ""
    return Ccache(Path(path), f"{path}, for host and device code{off}")


def summary(log: Path) -> str:
    """How many compilations ccache had done before, from what it wrote down (``CCACHE_STATSLOG``).

    Each compilation is a line with the source's name, then one for each counter that it raised.
    """
    if not log.is_file():
        return "nothing was compiled through it"
    entries = [entry.split() for entry in log.read_text(encoding="utf-8").split("# ")[1:]]
    hits = sum(any(word.endswith("_cache_hit") for word in entry) for entry in entries)
    misses = sum("cache_miss" in entry for entry in entries)
    text = f"{hits} of {len(entries)} compilations were hits"
    others = len(entries) - hits - misses
    return text + (f", {others} could not be cached (see {log})" if others else "")
