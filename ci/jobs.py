"""How many compilers may run at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Optional

from ci.errors import CiError

# What `cmake --build` reads, and hands to ninja for host and device code together.
CMAKE_VARIABLE = "CMAKE_BUILD_PARALLEL_LEVEL"


class JobsError(CiError):
    """``MAX_JOBS`` is no number of jobs."""


def job_count(environ: Mapping[str, str] = os.environ) -> Optional[int]:
    """``MAX_JOBS``, from 1 up; None where it is not set."""
    value = environ.get("MAX_JOBS")
    if not value:
        return None
    if not value.isdecimal() or int(value) == 0:
        raise JobsError(
            f"MAX_JOBS is {value!r}",
            means="it bounds how many compilers run at once, of host and device code together",
            do="set it to a whole number from 1 up, or unset it for one per processor",
        )
    return int(value)
