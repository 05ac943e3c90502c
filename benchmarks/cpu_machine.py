"""Conditions of a measurement: the commit, the processor, and the load of the machine."""

from __future__ import annotations

import os
import platform
from typing import Any, Dict

import torch
import transformers

from benchmarks import conditions
from vllm import _C


def describe() -> Dict[str, Any]:
    """The conditions, for a benchmark's JSON; `load_average` is that of the last minute."""
    return {
        "commit": conditions.commit_of_tree(),
        "machine": {
            "processor": next(iter(conditions.processors()), platform.machine()),
            "processors": len(os.sched_getaffinity(0)),
            "isa": _C.cpu_isa(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "load_average": round(os.getloadavg()[0], 2),
        },
    }
