"""When the requests of a benchmark are sent: at a rate, or at one that grows."""

from __future__ import annotations

import argparse
import random
from typing import Any, List


def add_arrival_options(group: Any) -> None:
    group.add_argument("--request-rate", type=float, default=float("inf"), help="requests a second")
    group.add_argument(
        "--burstiness",
        type=float,
        default=1.0,
        help="1: at random (Poisson); below: in bursts; above: evenly",
    )
    group.add_argument(
        "--ramp-up-strategy",
        choices=("linear", "exponential"),
        help="let the rate grow from the first of these two to the second, instead",
    )
    group.add_argument("--ramp-up-start-rps", type=float, metavar="RATE")
    group.add_argument("--ramp-up-end-rps", type=float, metavar="RATE")


def check_arrivals(args: argparse.Namespace) -> None:
    """Raises ValueError for options out of their ranges, or that contradict each other."""
    for name in ("request_rate", "burstiness"):
        if getattr(args, name) <= 0:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} must be above 0, got {getattr(args, name)}")
    ends = (args.ramp_up_start_rps, args.ramp_up_end_rps)
    if args.ramp_up_strategy is None:
        if ends != (None, None):
            raise ValueError("--ramp-up-start-rps and --ramp-up-end-rps need --ramp-up-strategy")
        return
    if args.request_rate != float("inf"):
        raise ValueError("--ramp-up-strategy takes the place of --request-rate: leave one out")
    if None in ends or not 0 < ends[0] < ends[1]:
        raise ValueError(
            "--ramp-up-strategy needs --ramp-up-start-rps above 0 and --ramp-up-end-rps above that"
        )


def arrivals(args: argparse.Namespace, count: int) -> List[float]:
    """When requests are sent, in seconds from the beginning.

    Gaps are drawn from a gamma distribution of shape `burstiness`, and stretched so that the last
    request comes when it would with even gaps, whatever was drawn.
    """
    if args.request_rate == float("inf") and args.ramp_up_strategy is None:
        return [0.0] * count
    generator = random.Random(args.seed)
    even, found, now = 0.0, [], 0.0
    for number in range(count):
        gap = 1 / _rate(args, number / max(count - 1, 1))
        even += gap
        now += generator.gammavariate(args.burstiness, gap / args.burstiness)
        found.append(now)
    return [each * even / now for each in found]


def _rate(args: argparse.Namespace, progress: float) -> float:
    """Requests a second when a part of them has been sent, in [0, 1]."""
    if args.ramp_up_strategy is None:
        return float(args.request_rate)
    start, end = float(args.ramp_up_start_rps), float(args.ramp_up_end_rps)
    if args.ramp_up_strategy == "linear":
        return start + (end - start) * progress
    return float(start * (end / start) ** progress)
