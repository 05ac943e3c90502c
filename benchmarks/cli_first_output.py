"""Time until the first output of each command in a terminal.

    python -m benchmarks.cli_first_output

Each command runs `--rounds` times in its own pseudo-terminal; figures are the median time until its
first character, and the processor time of its processes until then, which the machine's other work
does not change. The model is the small one of `tests.models.taught`, whose loading time is
negligible: the figures are the startup of Python and torch. `vllm serve`'s second figures are those
until it is ready. Writes cli_first_output.json in this folder.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from benchmarks import cpu_machine
from tests.models.taught import make_model

VLLM = str(Path(sys.executable).with_name("vllm"))
SMALL = ["--num-kv-blocks", "64"]


class Terminal:
    """A command in a terminal."""

    def __init__(self, words: Sequence[str], folder: Path) -> None:
        self._ours, theirs = pty.openpty()
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [VLLM, *words],
            cwd=folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "dumb", "VLLM_CPU_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        os.close(theirs)

    def seconds_until(self, pattern: str) -> Tuple[float, float]:
        """From the start until the output has `pattern`: passed, and of processor time."""
        seen = ""
        while not re.search(pattern, seen):
            seen += os.read(self._ours, 4096).decode(errors="replace")
        return time.perf_counter() - self.started, processor_seconds(self.process.pid)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


def processor_seconds(pid: int) -> float:
    """The processor time of a process, of its children that have ended, and of those that run."""
    folder = Path("/proc", str(pid))
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    ticks = sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
    children = [
        int(child) for path in folder.glob("task/*/children") for child in path.read_text().split()
    ]
    return ticks / os.sysconf("SC_CLK_TCK") + sum(map(processor_seconds, children))


def commands(url: str) -> Dict[str, List[str]]:
    """Name in the record -> arguments of the command."""
    lengths = ["--input-len", "8", "--output-len", "8"]
    return {
        "vllm --version": ["--version"],
        "vllm --help": ["--help"],
        "vllm collect-env": ["collect-env"],
        "vllm generate": ["generate", "tiny", "--prompt", "A", *SMALL],
        "vllm chat": ["chat", "tiny", *SMALL],
        "vllm chat --url": ["chat", "--url", f"{url}/v1"],
        "vllm complete --url": ["complete", "--url", f"{url}/v1", "-q", "A paged"],
        "vllm serve": ["serve", "tiny", "--port", "0", *SMALL],
        "vllm bench throughput": ["bench", "throughput", "tiny", *lengths, *SMALL],
        "vllm bench latency": ["bench", "latency", "tiny", *lengths, *SMALL],
        "vllm bench serve": ["bench", "serve", "--base-url", url, "--num-prompts", "1"],
    }


def measure(
    words: Sequence[str], folder: Path, rounds: int, pattern: str = r"\S"
) -> Dict[str, float]:
    """The medians of both times, in milliseconds."""
    times = []
    for _ in range(rounds):
        terminal = Terminal(words, folder)
        try:
            times.append(terminal.seconds_until(pattern))
        finally:
            terminal.end()
    passed, processor = (round(1000 * statistics.median(each), 1) for each in zip(*times))
    return {"ms": passed, "processor_ms": processor}


def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent)
        (folder / "tiny").mkdir()
        make_model(folder / "tiny")
        words = [VLLM, "serve", "tiny", "--port", "0", *SMALL]
        with subprocess.Popen(words, cwd=folder, stderr=subprocess.PIPE, text=True) as server:
            assert server.stderr is not None
            try:
                ready = next(line for line in server.stderr if "ready in" in line)
                url = ready.partition(" at ")[2].partition("/v1")[0]
                typed = commands(url)
                record: Dict[str, Any] = {
                    **cpu_machine.describe(),
                    "rounds": args.rounds,
                    "first_output": {
                        name: measure(words, folder, args.rounds) for name, words in typed.items()
                    },
                    "serve_ready": measure(typed["vllm serve"], folder, args.rounds, "ready in"),
                }
            finally:
                server.terminate()
    path = Path(__file__).with_name("cli_first_output.json")
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
