"""What may happen to ranks that Ray has started on two hosts, and what is seen then.

python -m tests.worker.ranks.ray_faults     does all of it and writes benchmarks/ray_faults.json,
from which `python -m benchmarks.figures` makes the table of docs/engine.md
"""

from __future__ import annotations

import os
import re
import signal
import tempfile
import time
from pathlib import Path
from typing import List, Tuple

from tests.worker.ranks.faults import RECORDS, Fault, Program, observed, write_record
from tests.worker.ranks.hosts import ADDRESSES, Host, two_hosts
from tests.worker.ranks.ray_nodes import cluster

WHERE = rf"rank 1 \(process \d+ on {re.escape(ADDRESSES[1])}\)"
FAULTS = [
    Fault(1, "is killed", "in a step", rf"{WHERE} was killed by SIGKILL"),
    Fault(1, "is stopped", "in a step", r"rank 1 stalls: there has been no sign of life"),
    Fault(1, "loses its actor", "in a step", rf"{WHERE} has lost its actor"),
    Fault(1, "cannot be reached", "in a step", r"rank 1 stalls: "),
    Fault(0, "gets Ctrl-C", "in a step", "KeyboardInterrupt"),
    Fault(0, "is killed", "in a step", ""),  # Ray ends the other rank before it can say anything
]


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def do(fault: Fault, program: Program, hosts: List[Host]) -> None:
    rank_0, (rank_1,) = program.process.pid, program.others
    if fault.what == "loses its actor":
        os.kill(parent_of(rank_1), signal.SIGKILL)
    elif fault.what == "cannot be reached":
        hosts[1].run("ip", "link", "set", "cable", "down")
    elif fault.what == "gets Ctrl-C":
        os.killpg(rank_0, signal.SIGINT)  # as a terminal does
    else:
        number = signal.SIGSTOP if fault.what == "is stopped" else signal.SIGKILL
        os.kill(rank_1 if fault.rank else rank_0, number)


def run(fault: Fault, hosts: List[Host], enter: List[str], model: Path) -> Tuple[str, float]:
    """What is said, and how many seconds after the fault; returns when all ranks are gone."""
    with Program(model, backend="ray", enter=enter) as program:
        stderr = program.process.stderr
        assert stderr is not None
        begun = time.monotonic()
        do(fault, program, hosts)
        said: List[str] = []
        for line in stderr:
            said.append(line)
            if re.search(fault.says, line):
                break
        seconds = time.monotonic() - begun
        gone = program.wait_for_others()
        if fault.rank == 0:
            seconds = gone - begun
        return "".join([*said, program.process.communicate()[1]]), seconds


def main() -> None:
    from tests.models.support import write_model

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder), "qwen3").folder
        for fault in FAULTS:
            with two_hosts() as hosts, cluster(hosts) as enter:
                rows.append(observed(fault, *run(fault, hosts, enter, model)))
            print(rows[-1])
    write_record(RECORDS / "ray_faults.json", rows)


if __name__ == "__main__":
    main()
