"""Conditions of a measurement: the commit, the processor, and the load of the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any, Dict

import torch
import transformers

from vllm import _C


def describe() -> Dict[str, Any]:
    """The conditions, for a benchmark's JSON; `load_average` is that of the last minute."""
    return {
        "commit": _commit(),
        "machine": {
            "processor": _processor(),
            "processors": len(os.sched_getaffinity(0)),
            "isa": _C.cpu_isa(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "load_average": round(os.getloadavg()[0], 2),
        },
    }


def _commit() -> str:
    """The commit of this source tree, with "+changes" if it has uncommitted changes."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40"]
    done = subprocess.run(
        [*command, "--exclude=*", "--dirty=+changes"], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
