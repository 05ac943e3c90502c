"""Two hosts on one machine: network namespaces that reach each other by a virtual cable.

They belong to processes, and are gone with them. None of it needs a privilege where the kernel
lets users have namespaces of their own.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from typing import Iterator, List, Sequence

ADDRESSES = ("10.213.0.1", "10.213.0.2")


class Host:
    """The namespaces of a process."""

    def __init__(self, pid: int, address: str) -> None:
        self.address = address
        self._enter = ["nsenter", "-t", str(pid), "-U", "-n", "--preserve-credentials"]

    def command(self, *command: str) -> List[str]:
        """The command, to be run in here."""
        return [*self._enter, *command]

    def run(self, *command: str) -> None:
        subprocess.run(self.command(*command), check=True, capture_output=True, text=True)


def why_not() -> str:
    """Why this machine has no namespaces for us; empty where it has."""
    missing = [name for name in ("unshare", "nsenter", "ip") if shutil.which(name) is None]
    if missing:
        return f"there is no {missing[0]}"
    try:
        with two_hosts():
            return ""
    except subprocess.CalledProcessError as error:
        return f"{' '.join(map(str, error.cmd))}: {(error.stderr or '').strip()}"


@contextlib.contextmanager
def two_hosts() -> Iterator[List[Host]]:
    """Raises CalledProcessError where that is not allowed."""
    with contextlib.ExitStack() as stack:

        def start(command: Sequence[str]) -> subprocess.Popen:
            process = subprocess.Popen(
                [*command, "sh", "-c", "echo; exec sleep infinity"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)  # waits for it, and closes its pipes
            stack.callback(process.kill)
            if process.stdout.readline() != "\n":
                error = process.stderr.read()
                raise subprocess.CalledProcessError(process.wait(), command, stderr=error)
            return process

        first = start(["unshare", "--user", "--map-root-user", "--net"])
        inside = ["nsenter", "-t", str(first.pid), "-U", "--preserve-credentials"]
        second = start([*inside, "unshare", "--net"])
        hosts = [Host(p.pid, address) for p, address in zip((first, second), ADDRESSES)]
        hosts[0].run(
            "ip", "link", "add", "cable", "type", "veth", "peer", "cable", "netns", str(second.pid)
        )
        for host in hosts:
            host.run("ip", "address", "add", f"{host.address}/24", "dev", "cable")
            for device in ("cable", "lo"):
                host.run("ip", "link", "set", device, "up")
        yield hosts
