"""``vllm collect-env``: what a bug report needs to know of a machine."""

from __future__ import annotations

import argparse

HELP = "print versions, devices and what of this build they can run"


def configure(parser: argparse.ArgumentParser) -> None:
    pass


def run(args: argparse.Namespace) -> int:
    from vllm import collect_env

    return collect_env.main([])
