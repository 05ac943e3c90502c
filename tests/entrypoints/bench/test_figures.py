"""Figures of requests whose times are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm.entrypoints.bench.client import Result
from vllm.entrypoints.bench.figures import percentile, report, summarize

RESULTS = [
    Result(10, 0.0, first=0.1, between=[0.02, 0.04], whole=0.16, output_len=3),
    Result(20, 0.1, first=0.3, between=[0.1], whole=0.4, output_len=2),
    Result(30, 0.2, first=0.05, whole=0.05, output_len=1),
    Result(40, 0.3, error="400: no"),
]


def test_figures_are_of_those_that_succeeded():
    figures = summarize(RESULTS, 2.0, percentiles=[50], goodput={"ttft": 200, "tpot": 40})
    expected = {
        "completed": 3,
        "failed": 1,
        "total_input_tokens": 60,
        "total_output_tokens": 6,
        "request_throughput": 1.5,
        "output_throughput": 3.0,
        "total_token_throughput": 33.0,
        "max_concurrent_requests": 2,
        "request_goodput": 1.0,  # the second is too slow
        "mean_ttft_ms": 150.0,
        "median_ttft_ms": 100.0,
        "p50_ttft_ms": 100.0,
        "mean_tpot_ms": 65.0,  # (30 + 100) / 2: an answer of one token has none
        "mean_itl_ms": 160 / 3,
        "median_itl_ms": 40.0,
        "mean_e2el_ms": 610 / 3,
    }
    assert {name: figures[name] for name in expected} == pytest.approx(expected)


def test_nothing_that_succeeded_has_no_times():
    figures = summarize(RESULTS[3:], 1.0, percentiles=[99], goodput={})
    assert not any(name.endswith("_ms") for name in figures)
    assert "Failed requests:                         1" in report(figures, ["ttft"])


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=40), st.floats(0, 100, allow_subnormal=False)
)
def test_percentiles_are_numpys(values, p):
    assert percentile(sorted(values), p) == pytest.approx(float(np.percentile(values, p)))
