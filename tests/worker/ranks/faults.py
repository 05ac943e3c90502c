"""What may happen to a rank, and what is seen then in the others: each is done to real processes.

    python -m tests.worker.ranks.faults [--device cuda] [--json FILE] [--jobs N]

does all of it and writes the record, from which `python -m benchmarks.figures` makes the table of
docs/engine.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

from tests.waiting import until_gone

RECORDS = Path(__file__).parents[3] / "benchmarks"
BOUND = 5.0  # seconds, as docs/engine.md has it


class Fault(NamedTuple):
    """says: a regular expression of what the others say."""

    rank: int
    what: str
    when: str
    says: str


FAULTS = [
    Fault(1, "is killed", "between steps", r"rank 1 \(process \d+\) was killed by SIGKILL"),
    Fault(1, "is killed", "in a step", r"rank 1 \(process \d+\) was killed by SIGKILL"),
    Fault(1, "is killed", "while loading", r"rank 1 \(process \d+\) was killed by SIGKILL"),
    Fault(1, "is stopped", "in a step", r"rank 1 stalls: there has been no sign of life"),
    Fault(1, "hangs", "in a step", r"rank 1 stalls: others have waited 3.5 s for its exchange"),
    Fault(1, "raises", "in a step", r"rank 1 raised ArithmeticError: an injected error"),
    Fault(1, "raises", "while loading", r"rank 1 raised ArithmeticError: an injected error"),
    Fault(0, "raises", "in a step", r"rank 0 raised ArithmeticError: an injected error"),
]
# Rank 0 is the process of the program itself: what the other processes say on its standard error.
PROGRAM_FAULTS = [
    Fault(0, "is killed", "in a step", r"rank 1 ends: rank 0 is gone: "),
    Fault(0, "is stopped", "in a step", r"rank 1 ends: rank 0 stalls: its store does not answer"),
]


@contextlib.contextmanager
def environment(fault: Fault) -> Iterator[Path]:
    """Makes processes fail that are started now; gives the file that says when they have."""
    names = ("FAULT", "FAULT_TIME")
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder, "time")
        os.environ.update(zip(names, (json.dumps(fault[:3]), str(note))))
        try:
            yield note
        finally:
            for name in names:
                del os.environ[name]


class Program:
    """A process that has rank 0 and generates, in a process group of its own; 2 ranks.

    Use as ``with``.

    backend: who starts the other one.
    enter: a command that runs another, where and with what environment this one is to run.
    """

    def __init__(
        self, model: Path, device: str = "cpu", backend: str = "mp", enter: Sequence[str] = ()
    ) -> None:
        command = [sys.executable, "-m", "tests.worker.ranks.faulty", str(model), device, backend]
        self.process = subprocess.Popen(
            [*enter, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.others: List[int] = json.loads(self.process.stdout.readline())

    def wait_for_others(self) -> float:
        """When the last of them was gone."""
        until_gone(self.others)
        return time.monotonic()

    def end(self) -> str:
        """What all of them have said."""
        self.process.kill()
        return self.process.communicate()[1]

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *error: object) -> None:
        for pid in self.others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.end()


def run(fault: Fault, model: Path, device: str = "cpu") -> Tuple[str, float]:
    """What is said, and how many seconds after the fault."""
    from tests.worker.ranks import faulty
    from vllm.errors import RankError
    from vllm.llm import LLM
    from vllm.sampling_params import SamplingParams
    from vllm.worker.model_runner import ModelRunner
    from vllm.worker.ranks.processes import Processes

    original, module = ModelRunner.run, Processes.module
    with environment(fault) as note:
        outside = fault.when == "between steps"
        try:
            if not outside:
                Processes.module = faulty.MODULE
                faulty.inject(0)
            args = {"skip_tokenizer_init": True, "num_kv_blocks": 256, "tensor_parallel_size": 2}
            llm = LLM(model, device=device, **args)
            params = SamplingParams(temperature=0, max_tokens=10)
            if outside:
                llm.generate([1, 2, 3], params)
                note.write_text(str(time.monotonic()))
                os.kill(llm.engine.executor.pids[0], signal.SIGKILL)
            llm.generate([1, 2, 3], params)
        except RankError as error:
            return str(error), time.monotonic() - float(note.read_text())
        finally:
            ModelRunner.run, Processes.module = original, module
    raise AssertionError("nothing was noticed")


def run_program(fault: Fault, model: Path, device: str = "cpu") -> Tuple[str, float]:
    """Like `run`, for what happens to rank 0 itself."""
    with environment(fault) as note, Program(model, device) as program:
        gone = program.wait_for_others()
        return program.end(), gone - float(note.read_text())


def observe(fault: Fault, model: Path, device: str = "cpu") -> Dict[str, Any]:
    """Does it; what the record has of it."""
    do = run_program if fault in PROGRAM_FAULTS else run
    return observed(fault, *do(fault, model, device))


def observed(fault: Fault, said: str, seconds: float) -> Dict[str, Any]:
    """Raises AssertionError if something else was said."""
    found = re.search(fault.says, said)
    assert found, said
    return {
        **dict(zip(("rank", "what", "when"), fault)),
        "said": found.group().rstrip(" :"),
        "seconds": round(seconds, 1),
    }


def write_record(path: Path, rows: Sequence[Dict[str, Any]]) -> None:
    from benchmarks.conditions import commit, machine

    record = {"commit": commit(), "machine": machine(), "faults": rows}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def check_record(name: str, faults: Sequence[Fault]) -> None:
    """Compares the record ``benchmarks/NAME.json`` with the faults that there are, and its times
    with BOUND.

    The times are those of the recorded run: how long a fault takes in a test depends on what else
    the machine does.
    """
    rows = json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))["faults"]
    assert [(row["rank"], row["what"], row["when"]) for row in rows] == [f[:3] for f in faults]
    for row, fault in zip(rows, faults):
        assert re.search(fault.says.rstrip(" :"), row["said"])
        assert row["seconds"] < BOUND


def main() -> None:
    from tests.models.support import write_model

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, default=RECORDS / "rank_faults.json")
    parser.add_argument("--jobs", type=int, default=1, help="how many at the same time")
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")  # each in a process: it changes the environment
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder), "qwen3").folder
        with ProcessPoolExecutor(args.jobs, context) as pool:
            faults = [*FAULTS, *PROGRAM_FAULTS]
            given = [pool.submit(observe, fault, model, args.device) for fault in faults]
            rows = [each.result() for each in given]
    for row in rows:
        print(row)
    write_record(args.json, rows)


if __name__ == "__main__":
    main()
