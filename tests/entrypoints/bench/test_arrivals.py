"""When requests are sent."""

from __future__ import annotations

import argparse

import pytest

from vllm.entrypoints.bench.arrivals import add_arrival_options, arrivals, check_arrivals


def due(count, *words):
    parser = argparse.ArgumentParser()
    add_arrival_options(parser)
    args = parser.parse_args([*map(str, words)])
    check_arrivals(args)
    args.seed = 1
    return arrivals(args, count)


def test_all_at_once():
    assert due(3) == [0, 0, 0]


@pytest.mark.parametrize("burstiness", [0.2, 1.0, 5.0])
def test_requests_arrive_at_the_rate(burstiness):
    found = due(500, "--request-rate", 10, "--burstiness", burstiness)
    assert found[-1] == pytest.approx(50.0)
    assert found == sorted(found)
    gaps = [b - a for a, b in zip([0.0, *found], found)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    # Of a gamma distribution, the squared coefficient of variation is 1 / shape.
    assert variance / mean**2 == pytest.approx(1 / burstiness, rel=0.3)


@pytest.mark.parametrize(("strategy", "middle"), [("linear", 5.5), ("exponential", 10**0.5)])
def test_a_rate_that_grows(strategy, middle):
    """A high burstiness makes the gaps even: each is one over the rate of its place."""
    words = ["--ramp-up-strategy", strategy, "--ramp-up-start-rps", 1, "--ramp-up-end-rps", 10]
    found = due(101, *words, "--burstiness", 1e6)
    gaps = [b - a for a, b in zip([0.0, *found], found)]
    assert 1 / gaps[0] == pytest.approx(1, rel=0.02)
    assert 1 / gaps[50] == pytest.approx(middle, rel=0.02)
    assert 1 / gaps[100] == pytest.approx(10, rel=0.02)
