"""``vllm collect-env``: information about the machine for a bug report."""

from __future__ import annotations

import argparse

HELP = "print versions, devices and which code of this build they can run"


def configure(parser: argparse.ArgumentParser) -> None:
    pass


def run(args: argparse.Namespace) -> int:
    from vllm import collect_env

    return collect_env.main([])
