"""Runs the op tests with an aarch64 wheel on this machine: Debian's arm64 Python in qemu-user.

Nothing is installed on the system, and root is not needed: packages are downloaded to a folder and
unpacked there.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ci import environment, scratch
from ci.builder.progress import Failed, run_quietly
from ci.errors import CiError

PYTHON = "3.11"  # Debian 12's

# Processor of qemu → arguments of pytest. `max` has every extension, so the best kernels run there.
# A Neoverse N1 (Graviton2) has dot products and half precision but no bfloat16, a Cortex-A72
# (Graviton, Raspberry Pi 4) neither: a missing instruction raises SIGILL. (Other tests start
# `sys.executable` without an emulator, or need torch.)
CHOICE = "tests/cpu/test_isa.py"
PRODUCTS = ("tests/ops/test_few_rows_linear.py", "tests/ops/test_paged_attention.py")
RUNS: Mapping[str, tuple[str, ...]] = {
    "max": ("tests/ops", CHOICE, "tests/cpu/test_arm_sets.py"),
    "neoverse-n1": ("-k", "best_set", CHOICE),
    "cortex-a72": ("-k", "best_set or float16", CHOICE, *PRODUCTS),  # (bfloat16 too)
}
# Imported by the tests, with the versions pinned for every machine. (torch would be gigabytes.)
LIBRARIES = ("numpy", "pytest", "hypothesis", "ml-dtypes")
NEEDED = ("apt-get", "dpkg")
APT = """\
APT::Architecture "arm64";
APT::Architectures {{ "arm64"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "";
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
"""


class NoEmulation(CiError):
    """This machine cannot emulate aarch64."""


@dataclass(frozen=True)
class Emulated:
    """A Python for aarch64 that runs here, with a folder of importable packages."""

    qemu: Path
    root: Path  # of the unpacked packages
    site: Path

    def run(self, arguments: Sequence[str], cwd: Path, processor: str) -> int:
        """Runs it on one of qemu's processors, showing its output; returns its exit status."""
        python = self.root / "usr" / "bin" / f"python{PYTHON}"
        emulator = [str(self.qemu), "-L", str(self.root)]
        environ = {
            **os.environ,
            "QEMU_CPU": processor,
            "VLLM_TEST_EMULATOR": shlex.join(emulator),  # for tests that start Python themselves
            "PYTHONPATH": str(self.site),
            "PYTHONDONTWRITEBYTECODE": "1",
            "VLLM_TEST_LIBRARIES": "numpy",
        }
        command = [*emulator, str(python), *arguments]
        return subprocess.run(command, cwd=cwd, env=environ, check=False).returncode


def prepare(repo: Path, folder: Path, wheel: Path, environ: Mapping[str, str]) -> Emulated:
    """Downloads what is missing in `folder`, and installs `wheel` there, as pip on aarch64 would.

    Raises NoEmulation if apt or the packages are not available.
    """
    qemu = emulator(folder, environ)
    if not (folder / "root" / "usr" / "bin" / f"python{PYTHON}").is_file():
        packages = (f"python{PYTHON}", "libstdc++6")
        unpack_for_arm64(folder / "root", packages, folder, environ)
    site = folder / "site"
    scratch.remove(site)
    install(repo, site, LIBRARIES, environ)
    install(repo, site, ("--no-deps", str(wheel)), environ)
    return Emulated(qemu, folder / "root", site)


def emulator(folder: Path, environ: Mapping[str, str]) -> Path:
    """The path of qemu-user, downloaded to `folder` if missing. Raises NoEmulation without apt."""
    missing = [name for name in NEEDED if shutil.which(name, path=environ.get("PATH")) is None]
    if missing:
        raise NoEmulation(
            f"{', '.join(missing)} not found",
            means="the emulator and the Python for aarch64 come from Debian's packages",
            do="run the tests on Debian or Ubuntu, or on a machine with an Arm processor",
        )
    qemu = folder / "qemu" / "usr" / "bin" / "qemu-aarch64-static"
    if not qemu.is_file():
        _unpack(folder / "qemu", ("qemu-user-static",), environ, None)
    return qemu


def unpack_for_arm64(
    root: Path, packages: Sequence[str], folder: Path, environ: Mapping[str, str]
) -> None:
    """Unpacks Debian's packages for arm64 to `root`, with all their dependencies."""
    _unpack(root, packages, environ, _apt_for_arm64(folder / "apt"))


def install(
    repo: Path, site: Path, requirements: Sequence[str], environ: Mapping[str, str]
) -> None:
    """Installs wheels for aarch64 to `site`, with the versions pinned for every machine."""
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", str(site)]
    command += ["--python-version", PYTHON, "--only-binary", ":all:"]
    command += ["--python-platform", "aarch64-manylinux_2_28"]
    for name in ("test", "ci"):
        command += ["--constraint", str(repo / "requirements" / f"{name}.txt")]
    _run([*command, *requirements], repo, environ)


def _apt_for_arm64(folder: Path) -> Path:
    """An apt configuration for arm64 packages that ignores those installed on this machine."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    configuration = folder / "apt.conf"
    configuration.write_text(APT.format(folder=folder), encoding="utf-8")
    return configuration


def _unpack(
    target: Path, packages: Sequence[str], environ: Mapping[str, str], apt: Optional[Path]
) -> None:
    """Unpacks Debian packages; with `apt`, their dependencies too."""
    with scratch.folder(parent=target.parent) as temporary:
        archives = temporary / "archives"
        archives.mkdir()
        if apt is None:
            _run(["apt-get", "download", *packages], archives, environ)
        else:
            variables = {**environ, "APT_CONFIG": str(apt)}
            _run(["apt-get", "update"], archives, variables)
            options = ["-y", "--download-only", "-o", f"Dir::Cache::archives={archives}"]
            (archives / "partial").mkdir()
            _run(["apt-get", "install", *options, *packages], archives, variables)
        unfinished = temporary / target.name
        for archive in sorted(archives.glob("*.deb")):
            _run(["dpkg", "-x", str(archive), str(unfinished)], archives, environ)
        scratch.remove(target)
        unfinished.rename(target)


def _run(command: Sequence[str], cwd: Path, environ: Mapping[str, str]) -> None:
    try:
        run_quietly(command, cwd, environment.for_installing(environ))
    except Failed as error:
        raise NoEmulation(f"`{' '.join(command)}` failed:\n{error.output.strip()}") from error
