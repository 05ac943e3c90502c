"""How many compilers may run at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from ci import machine
from ci.errors import CiError

# `cmake --build` reads it and passes it to ninja, which compiles host and device code.
CMAKE_VARIABLE = "CMAKE_BUILD_PARALLEL_LEVEL"

# A margin over the largest process of benchmarks/source_build.json: kernels grow, and a compiler
# that finds no memory ends the build.
MEMORY_PER_JOB = 2 << 30  # bytes


class JobsError(CiError):
    """``MAX_JOBS`` is not a number of jobs."""


@dataclass(frozen=True)
class Jobs:
    """How many compilers may run, and the reason."""

    count: int
    reason: str

    def __str__(self) -> str:
        return f"{self.count} ({self.reason})"


def choose(environ: Mapping[str, str] = os.environ, limits: machine.Limits = machine.THIS) -> Jobs:
    """``MAX_JOBS``; if it is not set, as many as the processors and memory in `limits` allow.

    Raises JobsError unless the value is a positive integer.
    """
    value = environ.get("MAX_JOBS")
    if value:
        if not value.isdecimal() or int(value) == 0:
            raise JobsError(
                f"MAX_JOBS is {value!r}",
                means="it limits how many compilers run at once, for host and device code together",
                do="set it to a positive integer, or unset it to let the build choose",
            )
        return Jobs(int(value), "MAX_JOBS")
    processors, memory = limits.processors(), limits.memory()
    fit = max(1, memory.count // MEMORY_PER_JOB)
    reasons = [
        f"{processors.count} processors {processors.where}",
        f"{memory.count / (1 << 30):.1f} GiB free {memory.where}, "
        f"for {fit} jobs of {MEMORY_PER_JOB >> 30} GiB",
    ]
    if fit < processors.count:
        reasons.reverse()
    return Jobs(min(fit, processors.count), f"{'; '.join(reasons)}; MAX_JOBS changes it")
