"""What requests that arrive together take of the engine's process before they are queued.

    python -m benchmarks.engine_intake [--before PYTHON --before-commit COMMIT]

`--requests` requests of one token, by token ids, are made in turns of `--turn`, as a process that
handles HTTP makes them: it takes so many connections in a turn of its event loop. The engine's
process (`instant_engine.py`, without a model) reads them in its main thread. The figure is that
thread's processor time for each request, by /proc: the least of `--rounds`.

PYTHON is the interpreter of an environment with another build, which is measured in turns with this
one. Writes engine_intake.json in this folder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

PARAMS = {"max_tokens": 1, "temperature": 0.7, "top_p": 0.9, "ignore_eos": True}
LENGTHS = (32, 512)


def used(pid: int) -> float:
    """Processor seconds of a process's main thread."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


async def measure(args: argparse.Namespace) -> float:
    """Microseconds for each request."""
    from benchmarks import instant_engine
    from vllm import EngineArgs, SamplingParams
    from vllm.engine_process.client import AsyncEngineClient
    from vllm.engine_process.process import EngineProcess

    EngineProcess.module = instant_engine.MODULE
    draw = random.Random(0)
    prompts = [
        [draw.randrange(300, 1000) for _ in range(draw.randrange(*LENGTHS))]
        for _ in range(args.requests)
    ]
    engine_args = EngineArgs(str(args.folder), max_num_seqs=args.requests)
    engine = await AsyncEngineClient.start(engine_args, max_requests=args.requests)
    (pid,) = engine.pids

    async def ask(prompt: List[int]) -> None:
        params = SamplingParams(**PARAMS)
        async for _ in engine.generate({"prompt_token_ids": prompt}, params):
            pass

    found = []
    for _ in range(args.rounds):
        before, running = used(pid), []
        for start in range(0, len(prompts), args.turn):
            running += [
                asyncio.ensure_future(ask(each)) for each in prompts[start : start + args.turn]
            ]
            await asyncio.sleep(0)
        await asyncio.gather(*running)
        found.append((used(pid) - before) / len(prompts))
    await engine.shutdown()
    return round(min(found) * 1e6, 1)


def in_own_process(args: argparse.Namespace, folder: str, python: str) -> float:
    """`measure` by the build in an interpreter's environment."""
    words = ["--folder", folder, "--requests", str(args.requests), "--turn", str(args.turn)]
    command = [python, "-m", "benchmarks.engine_intake", *words, "--rounds", str(args.rounds)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--before", metavar="PYTHON", help="interpreter with another build")
    parser.add_argument("--before-commit", help="its commit, for the record")
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--turn", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.folder:
        print(asyncio.run(measure(args)))
        return
    from benchmarks import cpu_machine, server_work

    record: Dict[str, Any] = {**cpu_machine.describe(), "requests": args.requests}
    record["turn"] = args.turn
    if args.before:
        record["before_commit"] = args.before_commit
    builds = {"now": sys.executable, **({"before": args.before} if args.before else {})}
    with tempfile.TemporaryDirectory() as folder:
        server_work.write_folder(Path(folder))
        for _ in range(args.turns):
            for name, python in builds.items():
                found = in_own_process(args, folder, python)
                record[f"{name}_us"] = min(found, record.get(f"{name}_us", found))
                print(name, found, flush=True)
    Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
