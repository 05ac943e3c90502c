"""``python -m ci test-arm64``: tests this commit's wheel or source on an emulated aarch64."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ci import built_wheel, jobs, matrix
from ci.trial import arm64, arm64_source

HELP = "run the op tests with this commit's wheel for aarch64, under qemu-user (3 minutes)"
FOLDER = Path("build") / "arm64"
OPTIONS = ("-q", "-m", "not gpu", "-p", "no:cacheprovider")  # of pytest


def configure(parser: argparse.ArgumentParser) -> None:
    built_wheel.add_wheels(parser)
    parser.add_argument(
        "--if-possible",
        action="store_true",
        help="if nothing here can emulate, say why and exit with 0",
    )
    parser.add_argument(
        "--source",
        action="store_true",
        help="compile the commit with Debian's g++ under the emulator, and test that (10 minutes)",
    )
    parser.add_argument("tests", nargs="*", help="arguments for pytest, on each emulated processor")


def run(args: argparse.Namespace) -> int:
    try:
        return _source(args) if args.source else _wheel(args)
    except arm64.NoEmulation as error:
        if not args.if_possible:
            raise
        print(f"nothing was tested on aarch64: {error}")
        return 0


def _source(args: argparse.Namespace) -> int:
    machine = arm64_source.prepare(Path.cwd(), Path.cwd() / FOLDER, os.environ)
    status = arm64_source.build(machine, jobs.choose(os.environ).count)
    return status or arm64_source.test(machine, [*OPTIONS, *(args.tests or ("tests/ops",))])


def _wheel(args: argparse.Namespace) -> int:
    known = matrix.load()
    platform = next(each for each in known.platforms if each.processor == "aarch64")
    wheel = built_wheel.find(args.wheels, known, platform)
    python = arm64.prepare(Path.cwd(), Path.cwd() / FOLDER, wheel.resolve(), os.environ)
    for processor, tests in arm64.RUNS.items():
        print(f"on {processor}:", flush=True)
        arguments = ["-m", "pytest", *OPTIONS, *(args.tests or tests)]
        status = python.run(arguments, Path.cwd(), processor)
        if status != 0:
            return status
    return 0
