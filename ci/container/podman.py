"""podman with settings that also work without a registry, as root in a CI container."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from ci.errors import CiError

PROGRAMS = ("podman", "runc", "mmdebstrap")


class NoContainers(CiError):
    """This machine cannot run containers; the message says what is missing."""


def prepare(folder: Path) -> dict[str, str]:
    """Writes podman's settings to `folder`; returns an environment that uses them.

    Installs podman if its programs are missing, with apt-get as root. Raises NoContainers if that
    fails, or podman cannot start a container.
    """
    _install_missing()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "containers.conf"
    path.write_text(settings(_hard_limit_of_files(), _most_processes()), encoding="utf-8")
    return {**os.environ, "CONTAINERS_CONF": str(path.resolve())}


def settings(files: int, processes: int) -> str:
    """containers.conf: this machine's own limits, which podman may not raise, and its network.

    runc, because crun refuses a mixture of cgroup versions.
    """
    return (
        "[containers]\n"
        f'default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]\n'
        'netns = "host"\n'
        "[engine]\n"
        'runtime = "runc"\n'
    )


def run(environ: dict[str, str], *command: str) -> str:
    """The output of ``podman …``. Raises NoContainers with its error message."""
    done = subprocess.run(
        ["podman", *command], env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        words = f"`podman {' '.join(command)}` failed: {done.stderr.strip()}"
        raise NoContainers(words, means="podman is installed, but does not work on this machine")
    return done.stdout


def _install_missing() -> None:
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NoContainers(
            f"{', '.join(missing)} not found",
            means="the container for cibuildwheel cannot be created",
            do="on Debian or Ubuntu: apt-get install " + " ".join(PROGRAMS),
        )
    install = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *PROGRAMS]
    for command in (["apt-get", "update", "-qq"], install):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoContainers(
                f"`{' '.join(command)}` failed: {done.stderr.strip()}",
                means="podman could not be installed",
            )


def _hard_limit_of_files() -> int:
    import resource  # not on every platform that the rest of this package is imported on

    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def _most_processes() -> int:
    return int(Path("/proc/sys/kernel/pid_max").read_text(encoding="ascii"))
