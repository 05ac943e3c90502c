"""What a call of an op costs on the host, beside an older build: instructions and time.

    python benchmarks/host_instructions.py BEFORE AFTER [--turns N | --timed FOLDER] [--json FILE]

BEFORE, AFTER: folders with an installed vllm, as of `pip install --no-deps --target FOLDER .`
Needs valgrind and a C compiler.

Instructions are counted by callgrind, in Python, in torch and in the library together, so the load
of the machine does not matter; they are those of a call with CPU tensors of torch, of no and of one
row, minus those of an empty call. Time is measured as in host_overhead.py, by the builds in turn;
the fastest burst of all turns counts. An op that takes other arguments than before is compared by
the tensor. Writes host_instructions.json in this folder, unless FILE is given.

Where this machine has too much else to do for times, another one takes them: FOLDER has what
`python benchmarks/host_instructions.py --time` printed there, with each build on PYTHONPATH in
turn, as host-before-1.json, host-after-1.json and so on.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List, Sequence, Tuple

CALLS = 200
BURSTS = 400
ROWS = (0, 1)
SOURCES = ("table", "attributes")  # how torch's tensors are read
TENSORS = {"penalize": (5, 9)}  # before and after, of ops that have changed their arguments
MARKS = """
#include <valgrind/callgrind.h>
void begin(void) { CALLGRIND_START_INSTRUMENTATION; }
void zero(void) { CALLGRIND_ZERO_STATS; }
void dump(const char* name) { CALLGRIND_DUMP_STATS_AT(name); }
"""

Call = Callable[[], object]
Key = Tuple[str, int, str]  # source, rows, op


def calls(rows: int) -> Dict[str, Call]:
    """A call of each op that the older build has, too."""
    import torch
    from host_overhead import WIDTH
    from host_overhead import calls as simple_calls

    from vllm import ops

    x, drawn = torch.ones(rows, WIDTH), torch.zeros(rows, dtype=torch.int64)
    index, ones = torch.zeros(rows, dtype=torch.int64), torch.ones(rows)
    head, cache = torch.ones(rows, 1, 32), torch.ones(2, 16, 1, 32)
    tables = torch.zeros((rows, 1), dtype=torch.int32)
    lengths = torch.ones(rows, dtype=torch.int32)
    starts = torch.arange(rows + 1, dtype=torch.int32)
    found = simple_calls(rows, "cpu")
    del found["torch.add"]
    values = cache.clone()
    found["paged_attention"] = lambda: ops.paged_attention(
        head, head, cache, values, tables, lengths, starts, 1.0
    )
    found["sample"] = lambda: ops.sample(drawn, x, ones, index, ones, ones, index, index)
    item_ints = 12
    if hasattr(ops, "attention_plan_sizes"):
        item_ints = ops.attention_plan_sizes(1, 1, 8, 2, 128, 8).item_ints
    items = torch.zeros((64, item_ints), dtype=torch.int32)
    found["plan_attention"] = lambda: ops.plan_attention(items, lengths, starts, 8, 2, 0, 8)
    if hasattr(ops, "count_tokens"):
        seen = torch.zeros((1, WIDTH // 32), dtype=torch.int32)
        uses = torch.zeros((1, WIDTH), dtype=torch.int32)
        nobody = index - 1
        found["penalize"] = lambda: ops.penalize(
            x, index, nobody, index, ones, ones, ones, seen, uses
        )
    else:
        found["penalize"] = lambda: ops.penalize(x, index, index, ones, ones)
    return found


def every_call() -> List[Tuple[Key, Call]]:
    """Each call by its name; an empty one first of each kind."""
    return [
        ((source, rows, op), call)
        for source in SOURCES
        for rows in ROWS
        for op, call in [("nothing", lambda: None), *calls(rows).items()]
    ]


def read_by(source: str) -> None:
    from vllm import _C

    _C.use_torch_attributes(source == "attributes")


def be_counted(marks: str) -> None:
    """In a process below callgrind: a dump for each call."""
    library = ctypes.CDLL(marks)
    cases = every_call()
    gc.disable()
    library.begin()
    for (source, rows, op), call in cases:
        read_by(source)
        for _ in range(50):
            call()
        library.zero()
        for _ in range(CALLS):
            call()
        library.dump(f"{source} {rows} {op}".encode())


def be_timed() -> None:
    """Prints the nanoseconds of the fastest burst of each call, less those of an empty one."""
    taken: Dict[Key, float] = {}
    for (source, rows, op), call in every_call():
        read_by(source)
        bursts = []
        for _ in range(BURSTS):
            start = time.perf_counter_ns()
            for _ in range(CALLS):
                call()
            bursts.append((time.perf_counter_ns() - start) / CALLS)
        taken[source, rows, op] = min(bursts)
    from conditions import machine

    found = [[*key, value] for key, value in taken.items()]
    print(json.dumps({"machine": machine(), "calls": found}))


def child(site: Path, *arguments: str, valgrind: Tuple[str, ...] = ()) -> str:
    """What this file prints as a program of its own, with the vllm of `site`."""
    # Without `site`: an editable installation would go before the folder.
    paths = [str(site), *(path for path in sys.path if path.endswith("-packages"))]
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_THREADS": "1",
    }
    command = [*valgrind, sys.executable, "-S", __file__, *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def less_nothing(all_calls: Dict[Key, float]) -> Dict[Key, float]:
    """Without the cost of the call itself."""
    return {
        (source, rows, op): value - all_calls[source, rows, "nothing"]
        for (source, rows, op), value in all_calls.items()
        if op != "nothing"
    }


def instructions(site: Path, folder: Path) -> Dict[Key, float]:
    (folder / "marks.c").write_text(MARKS, encoding="utf-8")
    marks = folder / "marks.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", marks, folder / "marks.c"], check=True)
    out = folder / "counts"
    callgrind = ("--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}")
    child(site, "--count", str(marks), valgrind=("valgrind", *callgrind))
    found = {}
    for path in folder.glob("counts.*"):
        text = path.read_text(encoding="utf-8")
        name = re.search(r"^desc: Trigger: Client Request: (\S+) (\S+) (\S+)", text, re.MULTILINE)
        total = re.search(r"^(?:summary|totals): (\d+)", text, re.MULTILINE)
        if name and total:
            found[name[1], int(name[2]), name[3]] = int(total[1]) / CALLS
    return less_nothing(found)


def nanoseconds(printed: str) -> Dict[Key, float]:
    """What `be_timed` found."""
    calls = json.loads(printed)["calls"]
    return less_nothing({(source, rows, op): value for source, rows, op, value in calls})


def fastest(turns: Sequence[Dict[Key, float]]) -> Dict[Key, float]:
    return {key: min(turn[key] for turn in turns) for key in turns[0]}


def commit(site: Path) -> str:
    """Of an installed build, as its build.json says."""
    (path,) = site.glob("vllm-*.dist-info/build.json")
    return str(json.loads(path.read_text(encoding="utf-8"))["commit"])


def records(
    counted: Tuple[Dict[Key, float], Dict[Key, float]],
    timed: Tuple[Dict[Key, float], Dict[Key, float]],
) -> List[Dict[str, object]]:
    found = []
    for source, rows, op in sorted(counted[0]):
        key = source, rows, op
        before, after = TENSORS.get(op, (1, 1))
        scale = before / after
        record: Dict[str, object] = {"source": source, "rows": rows, "op": op}
        for name, pair in (("instructions", counted), ("nanoseconds", timed)):
            record[name] = [round(values[key], 1) for values in pair]
            record[f"{name}_ratio"] = round(pair[1][key] / pair[0][key] * scale, 3)
        if op in TENSORS:
            record["tensors"] = [before, after]
        found.append(record)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--timed", type=Path, metavar="FOLDER", help="times that were taken before")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    sites = (arguments.before.resolve(), arguments.after.resolve())
    counted = []
    for site in sites:
        with tempfile.TemporaryDirectory() as folder:
            counted.append(instructions(site, Path(folder)))
    if arguments.timed:
        printed = [
            [path.read_text(encoding="utf-8") for path in sorted(arguments.timed.glob(pattern))]
            for pattern in ("host-before-*.json", "host-after-*.json")
        ]
    else:  # a turn of each, and again
        turns = [[child(site, "--time") for site in sites] for _ in range(arguments.turns)]
        printed = [list(of_site) for of_site in zip(*turns)]
    timed = [fastest([nanoseconds(text) for text in texts]) for texts in printed]
    result = {
        "commits": [commit(site) for site in sites],
        "machine": json.loads(printed[0][0])["machine"],  # of the times
        "records": records((counted[0], counted[1]), (timed[0], timed[1])),
    }
    for record in result["records"]:
        print(
            "{source:11}{rows:2}  {op:20}{instructions[0]:9.0f}{instructions[1]:9.0f}"
            "{instructions_ratio:7.3f}{nanoseconds[0]:9.0f}{nanoseconds[1]:9.0f}"
            "{nanoseconds_ratio:7.3f}".format(**record)
        )
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    arguments.json.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--count"]:
        be_counted(sys.argv[2])
    elif sys.argv[1:2] == ["--time"]:
        be_timed()
    else:
        main()
