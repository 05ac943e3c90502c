"""``python -m ci install-built``: installs the wheel that was just built in this environment."""

from __future__ import annotations

import argparse
import subprocess
import sys

from ci import built_wheel, environment, matrix

HELP = "install this commit's wheel of the default CUDA, for the tests to run against"


def configure(parser: argparse.ArgumentParser) -> None:
    built_wheel.add_wheels(parser)


def run(args: argparse.Namespace) -> int:
    wheel = built_wheel.find(args.wheels, matrix.load())
    # The version is the same for every commit, so pip would keep an installed wheel.
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--force-reinstall"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, wheel],
        env=environment.for_installing(),
        check=True,
    )
    return 0
