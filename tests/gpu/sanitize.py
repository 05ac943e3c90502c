"""Runs the GPU tests under compute-sanitizer, dealt out to many processes.

    python tests/gpu/sanitize.py racecheck
    python tests/gpu/sanitize.py memcheck --seconds 300 tests/gpu/test_sampling.py -k "not company"

TOOL is any of compute-sanitizer's: memcheck, racecheck, synccheck, initcheck. What follows the
options is pytest's; without it, all GPU tests run. Only our kernels are looked at: torch's would
take most of the time. Under memcheck and initcheck every tensor is an allocation of its own, for
inside torch's large ones an overrun meets another tensor's memory and is not seen; graphs cannot be
captured so, and their tests keep torch's allocator.

Each process prints its output if it fails; the last lines say how many tests passed, and how many
the time did not suffice for. It fails where none passed: without a GPU all are skipped.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, List, NamedTuple

ROOT = Path(__file__).parents[2]
PYTEST = [sys.executable, "-m", "pytest", "-o", "addopts="]  # as quiet as it says here
FOUND = 99  # the exit status that stands for findings
OWN_ALLOCATIONS = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
OF_GLOBAL_MEMORY = ("memcheck", "initcheck")
CAPTURES = re.compile("graph|captur|kernel_before")  # tests that capture graphs
FINDING = re.compile(r"=+ (Error|Warning|Invalid|Barrier|Uninitialized|Program hit|Internal)")
# Tests that start processes of their own or need most of the GPU's memory.
LEFT_OUT = "not test_loading and not test_engine and not more_ and not which_kernels"


def kernel_names() -> List[str]:
    """What tells our kernels from torch's: their names, or what those begin with."""
    launchers = "".join(path.read_text() for path in (ROOT / "csrc" / "ops").rglob("*.cpp"))
    names = set()
    for source in (ROOT / "csrc" / "kernels").rglob("*.cu"):
        found = re.findall(rf'"{source.stem}",\s*"(\w+)"', launchers)
        if not found:
            raise SystemExit(f"{source} has no kernel that csrc/ops launches by name")
        names.update(found)
    return sorted(name for name in names if not any(n in name for n in names - {name}))


def sanitizer_command(tool: str) -> List[str]:
    program = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    command = [program, f"--tool={tool}", f"--error-exitcode={FOUND}", "--print-limit=20"]
    command += ["--kernel-name=" + ",".join(f"kns={name}" for name in kernel_names())]
    if tool == "memcheck":
        # An overrun is not to reach another allocation; some tests make calls that fail.
        command += ["--padding=4096", "--report-api-errors=no"]
    return command


class Share(NamedTuple):
    """The tests of one process."""

    tests: List[str]
    environment: Dict[str, str]

    def run(self, sanitizer: List[str], deadline: float) -> str:
        """pytest's output and the tool's, with the exit status or 'timeout' in the last line."""
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as listing:
            listing.write("\n".join(self.tests))
            listing.flush()
            process = subprocess.Popen(
                [*sanitizer, *PYTEST, "-v", "-p", "no:cacheprovider", f"@{listing.name}"],
                cwd=ROOT,
                env={**os.environ, **self.environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            try:
                output, _ = process.communicate(timeout=max(deadline - time.monotonic(), 1))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                output, _ = process.communicate()
                return f"{output}\ntimeout"
        return f"{output}\nstatus {process.returncode}"


def collect(arguments: List[str]) -> List[str]:
    chosen = arguments or ["tests/gpu", "tests/ops", "-k", LEFT_OUT]
    command = [*PYTEST, "-q", "--collect-only", "-m", "gpu", *chosen]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    tests = [line for line in done.stdout.splitlines() if "::" in line]
    if not tests:
        raise SystemExit(f"no tests were collected:\n{done.stdout}{done.stderr}")
    return tests


def deal(tests: List[str], tool: str, processes: int) -> List[Share]:
    """Neighbours, which take about as long as each other, to different processes."""
    capturing = [test for test in tests if CAPTURES.search(test)]
    others = [test for test in tests if not CAPTURES.search(test)]
    own = OWN_ALLOCATIONS if tool in OF_GLOBAL_MEMORY else {}
    shares = [Share(capturing, {})] if capturing else []
    count = max(1, processes - len(shares))
    shares += [Share(others[i::count], own) for i in range(count) if others[i::count]]
    return shares


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tool", choices=["memcheck", "racecheck", "synccheck", "initcheck"])
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    parser.add_argument("--seconds", type=float, default=3600, help="when to stop")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="one test in N")
    options, arguments = parser.parse_known_args()
    deadline = time.monotonic() + options.seconds
    tests = collect(arguments)[:: options.every]
    shares = deal(tests, options.tool, options.processes)
    sanitizer = sanitizer_command(options.tool)
    with ThreadPoolExecutor(len(shares)) as pool:
        outputs = list(pool.map(lambda share: share.run(sanitizer, deadline), shares))
    late = [text for text in outputs if text.endswith("timeout")]
    bad = [text for text in outputs if not text.endswith(("status 0", "timeout"))]
    findings = [line for text in outputs for line in text.splitlines() if FINDING.match(line)]
    print(*bad, *findings, sep="\n")
    passed = sum(text.count(" PASSED") for text in outputs)
    print(
        f"{options.tool}: {len(tests)} tests in {len(shares)} processes, {passed} passed; "
        f"{len(findings)} findings, {len(bad)} processes failed, {len(late)} stopped for time"
    )
    return 1 if bad or late or findings or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
