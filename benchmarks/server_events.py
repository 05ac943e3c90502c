"""Processor time of the server's front processes for a request and for an event, without a GPU.

    python -m benchmarks.server_events --fronts 1 2 4 --streams 1 16 64 256

`vllm serve --api-server-count N` runs with an engine without a model (`instant_engine.py`) whose
step takes `--step` seconds. Streams that start at once ask for one token, and then for `--tokens`.
The processor time of the first is that of a request, the difference is that of the further events;
each is the least of `--rounds`, since other work on a machine only adds to it. System calls are
included. Where events come faster than they are written, tokens share one.

`first_token` is wall-clock time and so depends on what else runs: from the start of all streams to
each one's first event, beside a loop around the same engine in one process. Clients are processes
of their own (`server_load.py`). Writes server_events.json in this folder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

from benchmarks import cpu_machine, instant_engine, random_model
from benchmarks.server_load import Clients, Request
from benchmarks.server_throughput import fronts_of, run_in_loop

SERVER = """
import sys
from vllm.engine_process.process import EngineProcess
from vllm.entrypoints.cli import main
EngineProcess.module = sys.argv.pop(1)
sys.exit(main())
"""
MAX_SEQS = 256
PROMPT_TOKENS = 80


def spent(pids: List[int]) -> float:
    """The processor seconds that processes have used so far, without their children."""
    tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def write_folder(folder: Path) -> None:
    """A model's folder without weights."""
    folder.mkdir()
    config = random_model.SHAPES["small"]
    (folder / "config.json").write_text(json.dumps(config))
    random_model.write_tokenizer(config["vocab_size"], folder)


def workload(num_streams: int, tokens: int) -> List[Request]:
    return [(list(range(300, 300 + PROMPT_TOKENS)), tokens)] * num_streams


def measure(args: argparse.Namespace, folder: Path, num_fronts: int) -> Dict[str, Any]:
    words = [sys.executable, "-c", SERVER, instant_engine.MODULE, "serve", str(folder)]
    words += ["--port", "0", "--disable-uvicorn-access-log", "--max-num-seqs", str(MAX_SEQS)]
    words += ["--no-enable-prefix-caching", "--api-server-count", str(num_fronts)]
    env = {**os.environ, instant_engine.SECONDS_VARIABLE: str(args.step)}
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=env) as server:
        assert server.stderr is not None
        try:
            ready = next(line for line in server.stderr if "ready in" in line)
            host, _, port = ready.partition("http://")[2].partition("/")[0].rpartition(":")
            pids = fronts_of(server.pid)
            assert len(pids) == num_fronts
            with Clients(args.clients) as clients:
                return {
                    str(streams): _of_streams(args, clients, (host, int(port)), pids, streams)
                    for streams in args.streams
                }
        finally:
            server.terminate()


def _of_streams(
    args: argparse.Namespace,
    clients: Clients,
    address: Tuple[str, int],
    pids: List[int],
    streams: int,
) -> Dict[str, Any]:
    def rounds(tokens: int) -> Iterator[Tuple[float, float, Dict[str, float]]]:
        """Of each round: processor time and events of all streams, and what the clients saw."""
        for _ in range(args.rounds):
            before = spent(pids)
            seen = clients.ask_all(*address, workload(streams, tokens), streams)
            yield spent(pids) - before, streams * tokens / seen["tokens_per_event"], seen

    clients.ask_all(*address, workload(streams, 2), streams)  # what only the first ones do
    one, few, seen = min(rounds(1), key=lambda each: each[0])
    many, events, _ = min(rounds(args.tokens), key=lambda each: each[0])
    figures = {
        "request_us": one / streams * 1e6,
        "event_us": (many - one) / max(1.0, events - few) * 1e6,
        "tokens_per_event": streams * (args.tokens - 1) / max(1.0, events - few),
        "first_token_ms_p50": seen["first_token_ms_p50"],
    }
    return {name: round(value, 1) for name, value in figures.items()}


def in_loop(args: argparse.Namespace, folder: Path) -> Dict[str, float]:
    """The first tokens of streams that are a loop around the same engine, in this process."""
    from vllm import EngineArgs
    from vllm.engine.llm_engine import LLMEngine

    os.environ[instant_engine.SECONDS_VARIABLE] = str(args.step)
    engine_args = EngineArgs(str(folder), max_num_seqs=MAX_SEQS, enable_prefix_caching=False)
    engine = LLMEngine(engine_args, instant_engine.assemble(engine_args))
    found = {}
    for streams in args.streams:
        figures = run_in_loop(engine, workload(streams, 2), streams)
        found[str(streams)] = round(figures["first_token_ms_p50"], 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--fronts", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--tokens", type=int, default=65)
    parser.add_argument("--step", type=float, default=0.02, help="seconds of a step")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--before", type=Path, help="an earlier record, to keep in this one")
    parser.add_argument("--record", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    record: Dict[str, Any] = {**cpu_machine.describe()}
    record.update(tokens=args.tokens, step_seconds=args.step, rounds=args.rounds)
    if args.before is not None:
        record["before"] = json.loads(args.before.read_text())
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made, "model")
        write_folder(folder)
        record["first_token_ms_p50_in_a_loop"] = in_loop(args, folder)
        record["fronts"] = {}
        for num_fronts in args.fronts:
            record["fronts"][str(num_fronts)] = measure(args, folder, num_fronts)
            print(num_fronts, record["fronts"][str(num_fronts)], flush=True)
            args.record.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
