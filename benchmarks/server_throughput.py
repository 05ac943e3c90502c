"""Tokens per second and latencies through the server, compared with the library.

    python -m benchmarks.server_throughput                       a small model, on the CPU
    python -m benchmarks.server_throughput --shape 0.6B --streams 1 16 64 256 1000 --name 0.6B.h200

The workload is `--requests` requests, at least one for each stream and at most four, of prompts and
outputs of random tokens and lengths, greedy. In streams, each sends its next request when the
previous one has ended; all start at once. It runs

* offline: `LLM.generate`, with as many concurrent sequences as there are streams. Its throughput.
* in a loop: the streams are a loop over `LLMEngine.step` in the process of the model. Its latencies
  are the engine's own: what the server adds to them is the server's.
* served: the streams send requests to the server, from `--clients` processes.

Each runs in its own process, and only one engine exists at a time. All run `--rounds` times
alternately; medians are compared. Writes server_throughput_NAME.json in this folder. The model has
random weights (`benchmarks/random_model.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

from benchmarks import random_model
from benchmarks.server_load import Clients, Figures, Request, latencies

MAX_SEQS = 256


def make_workload(args: argparse.Namespace, num_streams: int) -> List[Request]:
    generator = random.Random(num_streams)
    vocab_size = random_model.SHAPES[args.shape]["vocab_size"]
    # Few streams take long.
    count = max(num_streams, min(args.requests, 4 * num_streams))

    def request() -> Request:
        prompt = [generator.randrange(vocab_size) for _ in range(_length(generator, args.input))]
        return prompt, _length(generator, args.output)

    return [request() for _ in range(count)]


def _length(generator: random.Random, limits: str) -> int:
    low, _, high = limits.partition("-")
    return generator.randint(int(low), int(high))


def run_offline(args: argparse.Namespace, folder: Path) -> Dict[int, Figures]:
    """Each workload through `LLM.generate` and in a loop, in this process."""
    from vllm import LLM, SamplingParams

    llm = LLM(str(folder), enable_prefix_caching=False, max_num_seqs=MAX_SEQS)
    found = {}
    warm_up = SamplingParams(temperature=0, max_tokens=16, ignore_eos=True)
    for num_streams in args.streams:
        workload = make_workload(args, num_streams)
        llm.engine.scheduler.max_num_seqs = min(num_streams, MAX_SEQS)
        params = [SamplingParams(temperature=0, max_tokens=n, ignore_eos=True) for _, n in workload]
        llm.generate([prompt for prompt, _ in workload[:num_streams]], warm_up)
        started = time.perf_counter()
        llm.generate([prompt for prompt, _ in workload], params)
        seconds = time.perf_counter() - started
        found[num_streams] = {
            "requests": len(workload),
            "output_tokens_per_second": sum(n for _, n in workload) / seconds,
            **run_in_loop(llm.engine, workload, num_streams),
        }
    return found


def run_in_loop(engine: Any, workload: List[Request], num_streams: int) -> Figures:
    """Latencies of streams that are a loop around the engine, without text."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    waiting = list(reversed(workload))
    times: Dict[str, List[float]] = {}

    def send_next() -> None:
        prompt, count = waiting.pop()
        request_id = str(len(times))
        times[request_id] = [time.perf_counter()]
        params = SamplingParams(
            temperature=0,
            max_tokens=count,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
        engine.add_request(request_id, prompt, params)

    for _ in range(num_streams):
        send_next()
    while engine.has_unfinished_requests:
        for output in engine.step():
            times[output.request_id].append(time.perf_counter())
            if output.finished and waiting:
                send_next()
    return latencies(list(times.values()))


def run_served(args: argparse.Namespace, folder: Path) -> Tuple[float, Dict[int, Figures]]:
    """Seconds until the server was ready, and each workload through it."""
    words = ["-m", "vllm", "serve", str(folder), "--port", "0", "--no-enable-prefix-caching"]
    words += ["--disable-uvicorn-access-log", "--max-num-seqs", str(MAX_SEQS)]
    words += ["--api-server-count", str(args.fronts)] if args.fronts else []
    with subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            ready = next(line for line in server.stderr if "ready in" in line)
            seconds = float(ready.rpartition("ready in ")[2].split()[0])
            host, _, port = ready.partition("http://")[2].partition("/")[0].rpartition(":")
            found = {}
            with Clients(args.clients) as clients:
                for num_streams in args.streams:
                    workload = make_workload(args, num_streams)
                    warm_up = [(prompt, 16) for prompt, _ in workload[:num_streams]]
                    clients.ask_all(host, int(port), warm_up, num_streams)
                    before = processor_seconds(server.pid)
                    figures = clients.ask_all(host, int(port), workload, num_streams)
                    spent = processor_seconds(server.pid) - before
                    found[num_streams] = {**figures, "front_end_processor_seconds": spent}
            return seconds, found
        finally:
            server.terminate()


def processor_seconds(pid: int) -> float:
    """What a server's processes that handle HTTP have used of the processors."""
    ticks = 0
    for each in {pid, *fronts_of(pid)}:
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def fronts_of(pid: int) -> List[int]:
    """The front processes of a server; itself, if it has none."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = folder.joinpath("stat").read_text().rpartition(")")[2].split()[1]
            command = folder.joinpath("cmdline").read_bytes()
        except OSError:  # it has ended since
            continue
        if int(parent) == pid and b"openai.front\0" in command:
            found.append(int(folder.name))
    return found or [pid]


def in_own_process(args: argparse.Namespace, folder: Path) -> Dict[int, Figures]:
    """`run_offline`, whose memory is free afterwards."""
    words = [sys.executable, "-m", "benchmarks.server_throughput", "--offline", str(folder)]
    for name in ("shape", "requests", "input", "output"):
        words += [f"--{name}", str(getattr(args, name))]
    words += ["--streams", *map(str, args.streams)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return {int(num_streams): figures for num_streams, figures in found.items()}


def medians(rounds: List[Figures]) -> Figures:
    """Of each figure, over the rounds."""
    return {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}


def describe_machine() -> Dict[str, Any]:
    import torch

    if torch.cuda.is_available():
        from benchmarks.conditions import commit, machine

        return {"commit": commit(), "machine": machine()}
    from benchmarks import cpu_machine

    return cpu_machine.describe()


def add_workload_arguments(parser: argparse.ArgumentParser) -> None:
    """What the benchmarks of a server have in common."""
    parser.add_argument("--shape", choices=sorted(random_model.SHAPES), default="small")
    parser.add_argument("--name", help="of the record; the shape's if not given")
    parser.add_argument("--record", type=Path, help="folder to write it to")
    parser.add_argument("--input", default="32-128", metavar="LOW-HIGH", help="tokens of a prompt")
    parser.add_argument("--output", default="32-128", metavar="LOW-HIGH", help="tokens to generate")
    parser.add_argument("--clients", type=int, default=max(1, (os.cpu_count() or 1) // 4))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_workload_arguments(parser)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--fronts", type=int, help="processes that handle HTTP (as it chooses)")
    parser.add_argument("--offline", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.offline:
        print(json.dumps(run_offline(args, args.offline)))
        return
    record: Dict[str, Any] = {**describe_machine(), "shape": args.shape}
    record.update(requests=args.requests, input=args.input, output=args.output, rounds=args.rounds)
    record.update(clients=args.clients, fronts=args.fronts)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as made:
        folder = Path(made, args.shape)
        random_model.write_model(args.shape, folder)
        offline: List[Dict[int, Figures]] = []
        served: List[Dict[int, Figures]] = []
        ready: List[float] = []
        for _ in range(args.rounds):
            offline.append(in_own_process(args, folder))
            seconds, figures = run_served(args, folder)
            ready.append(seconds)
            served.append(figures)
            record["ready_seconds"] = statistics.median(ready)
            record["streams"] = {
                num_streams: {
                    "offline": medians([each[num_streams] for each in offline]),
                    "served": medians([each[num_streams] for each in served]),
                }
                for num_streams in args.streams
            }
            name = f"server_throughput_{args.name or args.shape}.json"
            path = (args.record or Path(__file__).parent) / name
            path.write_text(json.dumps(record, indent=1) + "\n")
    for num_streams, both in record["streams"].items():
        rates = [both[way]["output_tokens_per_second"] for way in ("offline", "served")]
        print(num_streams, "streams:", *[round(rate) for rate in rates], both["served"], flush=True)


if __name__ == "__main__":
    main()
