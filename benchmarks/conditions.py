"""The conditions of a measurement, for its record: the commit, and the machine."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Dict, List

import torch

import vllm


def commit() -> str:
    """The commit of the installed build or, where it has none, of the tree."""
    return vllm.__commit__ or _git("rev-parse", "HEAD")


def commit_of_tree() -> str:
    """The commit of this source tree, with "+changes" if it has uncommitted changes."""
    return _git("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes")


def machine() -> Dict[str, object]:
    names = processors()
    return {
        "cpu": f"{len(names)} × {names[0]}" if names else platform.processor(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def processors() -> List[str]:
    """The model of each processor; empty where the kernel does not name them, as on Arm."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
