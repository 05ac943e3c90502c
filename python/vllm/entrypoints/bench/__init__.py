"""``vllm bench``: benchmarks a server under load, or the library's throughput and latency."""

from __future__ import annotations

import argparse

from vllm.entrypoints.bench import offline, serve

HELP = "measure a server, or the library's throughput or latency"


def configure(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(metavar="kind", required=True)
    serve.configure(kinds.add_parser("serve", help=serve.HELP, description=serve.HELP))
    offline.configure(kinds)


def run(args: argparse.Namespace) -> int:
    status: int = args.bench(args)
    return status
