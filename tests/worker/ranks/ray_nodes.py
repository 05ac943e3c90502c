"""Clusters of Ray's for tests: none of another program's is found, and nothing of it is left."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List

from tests.worker.ranks.hosts import ADDRESSES, Host

RAY = [sys.executable, "-m", "ray.scripts.scripts"]
PORT = "6379"


@contextlib.contextmanager
def own_environment() -> Iterator[Dict[str, str]]:
    """Variables of Ray's, for a cluster that this machine's others do not reach."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # the names of sockets in it have to be short
    try:
        yield {
            "RAY_TMPDIR": str(folder),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_raylet_start_wait_time_s": "300",  # a busy machine is not a broken one
            "OMP_NUM_THREADS": "1",
            "VLLM_CPU_THREADS": "1",
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def cluster(hosts: List[Host]) -> Iterator[List[str]]:
    """Has a node of one processor on each host; gives how a program on the first one is run."""
    with own_environment() as variables, contextlib.ExitStack() as stack:
        assignments = [f"{name}={value}" for name, value in variables.items()]
        for host in hosts:
            where = ["--address", f"{ADDRESSES[0]}:{PORT}"]
            if host is hosts[0]:
                where = ["--head", "--port", PORT, "--include-dashboard", "false"]
            start = ["start", "--block", "--node-ip-address", host.address, "--num-cpus", "1"]
            node = subprocess.Popen(
                host.command("env", *assignments, *RAY, *start, "--disable-usage-stats", *where),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            stack.enter_context(node)  # waits for it, and closes its pipe
            stack.callback(node.terminate)  # ends the node's other processes as well
            said = []
            for line in node.stdout:
                said.append(line)
                if "Ray runtime started" in line:
                    break
            else:
                raise AssertionError("a node of Ray's ended: " + "".join(said))
        address = f"RAY_ADDRESS={ADDRESSES[0]}:{PORT}"
        yield hosts[0].command("env", *assignments, address)


def left_of(variables: Dict[str, str]) -> List[str]:
    """Processes that run with this environment of Ray's."""
    mark = f"RAY_TMPDIR={variables['RAY_TMPDIR']}".encode()
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdigit() and mark in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
    return found
