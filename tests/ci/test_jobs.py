"""MAX_JOBS, and what is chosen without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.jobs import MEMORY_PER_JOB, Jobs, JobsError, choose
from ci.machine import Limit, Limits


class FixedLimits(Limits):
    """The limits of a machine of a given size."""

    def __init__(self, processors: int, memory: float) -> None:
        super().__init__(Path("/"))
        object.__setattr__(self, "_size", (processors, int(memory * MEMORY_PER_JOB)))

    def processors(self) -> Limit:
        return Limit(self._size[0], "by affinity")

    def memory(self) -> Limit:
        return Limit(self._size[1], "in this group")

    _size: tuple[int, int]


@pytest.mark.parametrize(("value", "jobs"), [("1", 1), ("12", 12)])
def test_max_jobs(value: str, jobs: int) -> None:
    assert choose({"MAX_JOBS": value}, FixedLimits(4, 2)) == Jobs(jobs, "MAX_JOBS")


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5"])
def test_an_invalid_number_of_jobs(value: str) -> None:
    with pytest.raises(JobsError, match="a positive integer"):
        choose({"MAX_JOBS": value})


@pytest.mark.parametrize("environ", [{}, {"MAX_JOBS": ""}])
@pytest.mark.parametrize(
    ("processors", "memory", "jobs"), [(4, 8, 4), (4, 4.5, 4), (8, 3.9, 3), (8, 0.5, 1)]
)
def test_the_smaller_of_processors_and_memory(
    environ: dict[str, str], processors: int, memory: float, jobs: int
) -> None:
    assert choose(environ, FixedLimits(processors, memory)).count == jobs


def test_the_reason_names_what_decided_first() -> None:
    assert choose({}, FixedLimits(4, 8)).reason.startswith(
        "4 processors by affinity; 16.0 GiB free"
    )
    few = choose({}, FixedLimits(8, 3)).reason
    assert few.startswith("6.0 GiB free in this group, for 3 jobs of 2 GiB; 8 processors")
    assert few.endswith("MAX_JOBS changes it")
