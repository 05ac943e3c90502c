"""Runs cibuildwheel, tests its wheel on more Pythons, and compares it with the host's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from rich.console import Console

from ci import environment, git, interpreters, matrix, scratch, toml
from ci.builder.progress import Failed, run_quietly
from ci.container.image import REQUIREMENTS
from ci.errors import CiError
from ci.names import LIBRARY
from ci.wheel import reader
from ci.wheel.reader import WheelFile

# cibuildwheel itself needs one of these.
RUNS_ON = ("3.11", "3.12", "3.13", "3.14")


class ContainerBuildError(CiError):
    """cibuildwheel, or a test of its wheel, failed."""


@dataclass(frozen=True)
class ContainerEnvironment:
    """Where cibuildwheel builds: its settings, and the environment of its processes."""

    environ: dict[str, str]
    image: Optional[str] = None  # a local one, with CPython 3.9 only; None: pyproject's

    def variables(self) -> dict[str, str]:
        environ = environment.for_installing(self.environ)
        if self.image is None:
            return environ
        return {
            **environ,
            "CIBW_CONTAINER_ENGINE": "podman; disable-host-mount: True",
            "CIBW_MANYLINUX_X86_64_IMAGE": self.image,
            "CIBW_BUILD": "cp39-manylinux_x86_64",
        }


def build(repo: Path, folder: Path, place: ContainerEnvironment, console: Console) -> WheelFile:
    """The wheel that cibuildwheel builds and tests from the commit checked out in `repo`.

    folder: holds a clone, so that no uncommitted or built file gets into the container.
    """
    scratch.remove(folder)
    source, out = folder / "source", folder / "wheelhouse"
    git.clone(repo, source, "HEAD")
    _lend_toolkits(repo, source)
    program = _install(repo, folder / "tool")
    command = [str(program), "--platform", "linux", "--output-dir", str(out)]
    console.print("cibuildwheel: building, repairing and testing in the container")
    # Its output is shown as it comes: the build takes minutes.
    done = subprocess.run(
        command, cwd=source, env=place.variables(), stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        raise ContainerBuildError("cibuildwheel failed", means="its output is above")
    (wheel,) = out.glob("*.whl")
    return reader.read(wheel)


def _lend_toolkits(repo: Path, source: Path) -> None:
    """Copies the compilers of device code: in the container, pip could install only one of them."""
    default = matrix.load(source / "ci" / "matrix.toml").default
    for toolkit in default.toolkits:
        folder = repo / "build" / "toolkit" / toolkit.version
        shutil.copytree(folder, source / "build" / "toolkit" / toolkit.version)


def differences(one: WheelFile, other: WheelFile) -> list[str]:
    """The native files in which two wheels differ. Raises ContainerBuildError if they have none."""
    names = one.native.keys() | other.native.keys()
    if LIBRARY not in names:
        raise ContainerBuildError(f"neither {one.path} nor {other.path} has a {LIBRARY}")
    return sorted(name for name in names if one.native.get(name) != other.native.get(name))


def versions_to_test(settings: Mapping[str, Any]) -> list[str]:
    """The Pythons of [tool.cibuildwheel], as ``3.9``."""
    return [f"3.{name.partition('-')[0][3:]}" for name in settings["build"]]


def test(
    wheel: WheelFile, repo: Path, folder: Path, versions: Sequence[str], console: Console
) -> dict[str, str]:
    """Runs cibuildwheel's test command on Pythons that the container lacks: version → result.

    A Python that this machine lacks too is "not tested". Raises ContainerBuildError.
    """
    settings = cibuildwheel_settings(repo)
    results: dict[str, str] = {}
    for version, interpreter in interpreters.find(versions).items():
        if interpreter is None:
            results[version] = f"not tested: no python{version} on this machine"
            continue
        venv = folder / f"python{version}"
        variables = _outside_of_container(settings["test-environment"], repo)
        environ = {**environment.for_installing(), **variables}
        uv = [sys.executable, "-m", "uv", "--quiet"]
        _run([*uv, "venv", "--clear", "-p", str(interpreter), str(venv)], folder, environ)
        python = str(venv / "bin" / "python")
        install = [*uv, "pip", "install", "--python", python]
        _run([*install, str(wheel.path)], folder, environ)
        _run([*install, *settings["test-requires"]], folder, environ)
        environ["PATH"] = f"{venv / 'bin'}:{environ['PATH']}"
        said = _run(["sh", "-c", settings["test-command"]], folder / "source", environ)
        results[version] = said.strip().splitlines()[-1]
        console.print(f"python {version}: {results[version]}", highlight=False, soft_wrap=True)
    return results


def cibuildwheel_settings(repo: Path) -> dict[str, Any]:
    """[tool.cibuildwheel] of the pyproject.toml in `repo`."""
    settings: dict[str, Any] = toml.read(repo / "pyproject.toml")["tool"]["cibuildwheel"]
    return settings


def _outside_of_container(variables: Mapping[str, str], repo: Path) -> dict[str, str]:
    return {name: value.replace("/project", str(repo)) for name, value in variables.items()}


def _install(repo: Path, venv: Path) -> Path:
    """Installs cibuildwheel in a virtual environment."""
    found = [path for path in interpreters.find(RUNS_ON).values() if path is not None]
    if not found:
        raise ContainerBuildError(
            f"no Python of {', '.join(RUNS_ON)} on this machine",
            means="cibuildwheel does not run on older ones",
        )
    uv, environ = [sys.executable, "-m", "uv", "--quiet"], environment.for_installing()
    _run([*uv, "venv", "-p", str(found[0]), str(venv)], repo, environ)
    pins = ["--require-hashes", "-r", str(repo / REQUIREMENTS)]
    python = str(venv / "bin" / "python")
    _run([*uv, "pip", "install", "--python", python, *pins], repo, environ)
    return venv / "bin" / "cibuildwheel"


def _run(command: Sequence[str], cwd: Path, environ: Mapping[str, str]) -> str:
    try:
        return run_quietly(command, cwd, environ)
    except Failed as error:
        raise ContainerBuildError(
            f"`{' '.join(command)}` failed:\n{error.output.strip()}"
        ) from error
