"""Tokens per second of one replica, and of several behind one address.

    python -m benchmarks.server_replicas --shape 8B --replicas 1 2 --streams 256 --name 8B.h200

`vllm serve --data-parallel-size N` of a model with random weights gets `--streams` streams for each
replica and `--requests` requests for each stream, as in `benchmarks.server_throughput`. The figure
is all output tokens over the time from the first request to the last answer. Writes
server_replicas_NAME.json in this folder.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict

from benchmarks import random_model
from benchmarks.server_load import Clients
from benchmarks.server_throughput import (
    MAX_SEQS,
    add_workload_arguments,
    describe_machine,
    make_workload,
    processor_seconds,
)


def measure(args: argparse.Namespace, folder: Path, num_replicas: int) -> Dict[str, float]:
    words = ["-m", "vllm", "serve", str(folder), "--port", "0", "--no-enable-prefix-caching"]
    words += ["--disable-uvicorn-access-log", "--max-num-seqs", str(MAX_SEQS)]
    words += ["--data-parallel-size", str(num_replicas)]
    words += ["--api-server-count", str(args.fronts)] if args.fronts else []
    words += ["--max-queued-sequences", str(4 * args.streams * num_replicas)]
    with subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            ready = next(line for line in server.stderr if "ready in" in line)
            host, _, port = ready.partition("http://")[2].partition("/")[0].rpartition(":")
            num_streams = args.streams * num_replicas
            given = {**vars(args), "requests": args.requests * num_streams}
            workload = make_workload(argparse.Namespace(**given), num_streams)
            with Clients(args.clients) as clients:
                clients.ask_all(host, int(port), workload[:num_streams], num_streams)  # the graphs
                before = processor_seconds(server.pid)
                figures = clients.ask_all(host, int(port), workload, num_streams)
                spent = processor_seconds(server.pid) - before
            return {**figures, "front_end_processor_seconds": spent}
        finally:
            server.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_workload_arguments(parser)
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--streams", type=int, default=16, help="for each replica")
    parser.add_argument("--requests", type=int, default=2, help="of each stream")
    parser.add_argument("--fronts", type=int, help="processes that handle HTTP (as it chooses)")
    args = parser.parse_args()
    record: Dict[str, Any] = {**describe_machine(), "shape": args.shape, "streams": args.streams}
    record.update(
        fronts=args.fronts,
        requests=args.requests,
        input=args.input,
        output=args.output,
        replicas={},
    )
    with tempfile.TemporaryDirectory(dir="/dev/shm") as made:
        folder = Path(made, args.shape)
        random_model.write_model(args.shape, folder)
        for num_replicas in args.replicas:
            found = record["replicas"][str(num_replicas)] = measure(args, folder, num_replicas)
            print(num_replicas, "replicas:", found, flush=True)
            name = f"server_replicas_{args.name or args.shape}.json"
            path = (args.record or Path(__file__).parent) / name
            path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
