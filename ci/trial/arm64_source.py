"""An emulated source build on Arm: Debian's arm64 Python, g++ and CMake in qemu-user.

A build starts nested programs, so the kernel itself must run aarch64 executables with the emulator.
Since Linux 6.7 that can be registered in a user namespace (binfmt_misc), without changing the
machine and without root.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ci import git, scratch
from ci.builder.progress import Failed, run_quietly
from ci.trial import arm64
from ci.trial.arm64 import NoEmulation

PACKAGES = (f"python{arm64.PYTHON}", "g++", "cmake", "ninja-build", "git", "dash", "coreutils")
# Arguments: the root folder, the emulator, the command. Flag F: the kernel opens the emulator at
# registration, so it need not exist below the new root.
ENTER = r"""
set -e
root=$1 qemu=$2; shift 2
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
printf %s ":aarch64:M::$magic:$mask:$qemu:F" > /proc/sys/fs/binfmt_misc/register
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
exec chroot "$root" "$@"
"""
UNSHARE = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", ENTER, "sh")


@dataclass(frozen=True)
class EmulatedMachine:
    """A folder of Debian's packages for arm64, entered by chroot."""

    qemu: Path
    root: Path

    def command(self, arguments: Sequence[str], variables: Mapping[str, str]) -> list[str]:
        """The command that runs `arguments` in /vllm of the machine, with `variables` set."""
        environ = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LC_ALL": "C.UTF-8", **variables}
        words = ["/usr/bin/env", "-i", "-C", "/vllm", *(f"{k}={v}" for k, v in environ.items())]
        return [*UNSHARE, str(self.root), str(self.qemu), *words, *arguments]


def prepare(repo: Path, folder: Path, environ: Mapping[str, str]) -> EmulatedMachine:
    """Prepares the machine below `folder`: a clone of `repo` at HEAD in /vllm, tools in /site.

    Raises NoEmulation if apt is missing, or the kernel cannot emulate in a namespace.
    """
    qemu = arm64.emulator(folder, environ)
    machine = EmulatedMachine(qemu, folder / "source")
    if not (machine.root / "usr" / "bin" / "cmake").is_file():
        arm64.unpack_for_arm64(machine.root, PACKAGES, folder, environ)
    for name in ("vllm", "site", "installed"):
        scratch.remove(machine.root / name)
    for name in ("dev", "proc", "tmp"):
        (machine.root / name).mkdir(exist_ok=True)
    git.clone(repo, machine.root / "vllm", "HEAD")
    tools = (*arm64.LIBRARIES, "scikit-build-core", "pip")
    arm64.install(repo, machine.root / "site", tools, environ)
    check(machine, environ)
    return machine


def check(machine: EmulatedMachine, environ: Mapping[str, str]) -> None:
    """Runs `true` in the machine. Raises NoEmulation if the kernel cannot."""
    try:
        run_quietly(machine.command(["true"], {}), machine.root, environ)
    except (Failed, FileNotFoundError) as error:
        said = error.output.strip() if isinstance(error, Failed) else str(error)
        raise NoEmulation(
            f"aarch64 programs cannot run in a user namespace here: {said}",
            means="that needs Linux 6.7 or newer, with user namespaces enabled",
            do="build on a machine with an Arm processor: pip install .",
        ) from error


def build(machine: EmulatedMachine, jobs: int) -> int:
    """`pip install .` for the CPU, by g++, into /installed; returns pip's exit status."""
    pip = [f"python{arm64.PYTHON}", "-m", "pip", "install", "--no-build-isolation", "--no-deps"]
    variables = {"PYTHONPATH": "/site", "VLLM_TARGET_DEVICE": "cpu", "MAX_JOBS": str(jobs)}
    command = machine.command([*pip, "-v", "--no-index", "--target", "/installed", "."], variables)
    return subprocess.run(command, cwd=machine.root, check=False).returncode


def test(machine: EmulatedMachine, arguments: Sequence[str]) -> int:
    """pytest with what `build` installed; returns its exit status."""
    pytest = [f"python{arm64.PYTHON}", "-m", "pytest", *arguments]
    variables = {"PYTHONPATH": "/installed:/site", "VLLM_TEST_LIBRARIES": "numpy"}
    return subprocess.run(
        machine.command(pytest, variables), cwd=machine.root, check=False
    ).returncode
