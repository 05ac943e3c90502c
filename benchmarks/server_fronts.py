"""A server with several numbers of front processes, compared with a loop around the engine.

    python -m benchmarks.server_fronts --shape 0.6B --fronts 1 2 4 8 --streams 256 --name 0.6B.h200

The workload, the loop and the server are those of `benchmarks.server_throughput`. All streams start
at once, so the first tokens show how long a burst of requests takes through HTTP. All run
`--rounds` times alternately; medians are compared. Writes server_fronts_NAME.json in this folder.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any, Dict, List

from benchmarks import random_model
from benchmarks.server_load import Figures
from benchmarks.server_throughput import (
    add_workload_arguments,
    describe_machine,
    in_own_process,
    medians,
    run_served,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_workload_arguments(parser)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fronts", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--streams", type=int, default=64)
    given = parser.parse_args()
    record: Dict[str, Any] = {**describe_machine(), "processors": os.cpu_count(), **vars(given)}
    del record["record"], record["name"]
    streams = given.streams
    offline: List[Figures] = []
    served: Dict[int, List[Figures]] = {count: [] for count in given.fronts}
    with tempfile.TemporaryDirectory(dir="/dev/shm") as made:
        folder = Path(made, given.shape)
        random_model.write_model(given.shape, folder)
        for _ in range(given.rounds):
            args = argparse.Namespace(**{**vars(given), "streams": [streams]})
            offline.append(in_own_process(args, folder)[streams])
            for count, rounds in served.items():
                args.fronts = count
                seconds, figures = run_served(args, folder)
                rounds.append({**figures[streams], "ready_seconds": seconds})
                print(count, "fronts:", rounds[-1], flush=True)
            record["offline"] = medians(offline)
            record["served"] = {count: medians(rounds) for count, rounds in served.items()}
            path = (given.record or Path(__file__).parent) / (
                f"server_fronts_{given.name or given.shape}.json"
            )
            path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
