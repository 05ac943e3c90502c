"""The arrival times of a benchmark's requests, at a constant or a growing rate."""

from __future__ import annotations

import argparse
import random
from typing import Any, List


def add_arrival_options(group: Any) -> None:
    group.add_argument(
        "--request-rate",
        type=float,
        default=float("inf"),
        help="requests per second (inf: all at once)",
    )
    group.add_argument(
        "--burstiness",
        type=float,
        default=1.0,
        help="1 (default): a Poisson process; below 1: burstier; above 1: more even",
    )
    group.add_argument(
        "--ramp-up-strategy",
        choices=("linear", "exponential"),
        help="increase the rate from --ramp-up-start-rps to --ramp-up-end-rps",
    )
    group.add_argument("--ramp-up-start-rps", type=float, metavar="RATE", help="its first rate")
    group.add_argument("--ramp-up-end-rps", type=float, metavar="RATE", help="its last rate")


def check_arrivals(args: argparse.Namespace) -> None:
    """Raises ValueError for options that are out of range or contradict each other."""
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
        raise ValueError("--ramp-up-strategy replaces --request-rate: use only one of them")
    if None in ends or not 0 < ends[0] < ends[1]:
        raise ValueError(
            "--ramp-up-strategy needs --ramp-up-start-rps above 0 and --ramp-up-end-rps above that"
        )


def arrivals(args: argparse.Namespace, count: int) -> List[float]:
    """The times at which requests are sent, in seconds from the start.

    Intervals are drawn from a gamma distribution of shape `burstiness`, then scaled so that the
    last request is sent at the same time as with even intervals.
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
    """Requests per second at a progress in [0, 1], the fraction that has been sent."""
    if args.ramp_up_strategy is None:
        return float(args.request_rate)
    start, end = float(args.ramp_up_start_rps), float(args.ramp_up_end_rps)
    if args.ramp_up_strategy == "linear":
        return start + (end - start) * progress
    return float(start * (end / start) ** progress)
