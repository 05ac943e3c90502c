"""MAX_JOBS."""

from __future__ import annotations

import pytest

from ci.jobs import JobsError, job_count


@pytest.mark.parametrize(("value", "jobs"), [("", None), ("1", 1), ("12", 12)])
def test_max_jobs(value: str, jobs: int) -> None:
    assert job_count({"MAX_JOBS": value}) == jobs


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5"])
def test_a_number_of_jobs_that_is_none(value: str) -> None:
    with pytest.raises(JobsError, match="a whole number from 1 up"):
        job_count({"MAX_JOBS": value})
