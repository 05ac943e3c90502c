"""The canonical wheels, built by scikit-build-core with the release's compilers.

All variants of a platform share one build folder and one configuration, so that its host library is
compiled once; each wheel installs it with its own device code. Device code does not depend on the
host platform: the main platform's configuration compiles it for all.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, Optional

from build import BuildBackendException, ProjectBuilder
from rich.console import Console

from ci import configuration, digest, jobs, native, scratch
from ci.builder.progress import Failed, run_with_progress
from ci.errors import CiError
from ci.git import Commit
from ci.matrix import Cuda, Matrix, Platform
from ci.wheel import symbols
from ci.wheel.build_info import BuildInfo

# The only variables that the compilers see: compilers, CMake and Python may read any other, and no
# pin covers those.
HARMLESS = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "LOGNAME", "TMPDIR", "TZ", "USER")


class BuildError(CiError):
    """Compiling or assembling a wheel failed."""


def source_date_epoch(commit: Commit, environ: Mapping[str, str] = os.environ) -> int:
    """The timestamp of files in a wheel: ``SOURCE_DATE_EPOCH`` if set, else the commit's time."""
    value = environ.get("SOURCE_DATE_EPOCH") or str(commit.time)
    if not value.isdecimal():
        raise BuildError(
            f"SOURCE_DATE_EPOCH is {value!r}",
            means="the timestamp of files in a wheel must be a number of seconds since 1970",
            do="unset it to use the time of the commit",
        )
    return int(value)


class Cell(NamedTuple):
    """A wheel of the matrix: one variant on one platform."""

    cuda: Cuda
    platform: Platform

    def __str__(self) -> str:
        return f"{self.cuda.variant}-{self.platform.processor}"


def build(
    repo: Path,
    folder: Path,
    known: Matrix,
    commit: Commit,
    *,
    compiled: Sequence[Cuda],
    toolkits: Mapping[str, Path],
    prebuilt: Mapping[Cell, Path],
    mark: Mapping[str, str],
    console: Console,
) -> dict[Cell, Path]:
    """The canonical wheels of these variants, below ``folder/canonical``.

    compiled: the variants to compile, with `toolkits` (CUDA version → folder).
    prebuilt: native files of the other variants, laid out as in a wheel.
    mark: the environment variable that identifies the processes of this build (`ci.lock.locked`).
    """
    wheels: dict[Cell, Path] = {}
    for platform in known.platforms:
        configured: dict[str, str] = {}
        for cuda in known.cudas:
            cell = Cell(cuda, platform)
            title = f"{cell}: assembling"
            if cell in prebuilt:
                defines = {"VLLM_VARIANTS": cuda.variant, "VLLM_PREBUILT": str(prebuilt[cell])}
                build_folder = folder / f"assembled-{cell}"
            elif cuda in compiled and platform in known.platforms_of(cuda):
                build_folder = folder / f"release-{platform.processor}"
                if not configured:
                    # The first cell compiles everything; the others only install.
                    title = f"compiling for {platform.processor}"
                    configured = _configure(repo, folder, known, platform, compiled, toolkits)
                    _begin(build_folder, console)
                    configured[configuration.VARIABLE] = str(configuration.wanted(build_folder))
                defines = configured
            else:
                continue
            record = folder / f"release-{cell}.json"
            record.write_bytes(_build_info(repo, known, commit, cell).render())
            settings = {
                "build-dir": str(build_folder),
                "ninja.make-fallback": "false",  # ninja is pinned, and runs the jobs that we choose
                "install.components": native.components(cuda, platform.processor),
                "cmake.define.VLLM_TARGET_DEVICE": "cuda",
                "cmake.define.VLLM_BUILD_INFO": str(record),
                **{f"cmake.define.{name}": value for name, value in defines.items()},
            }
            environ = {**compiler_environment(folder, commit), **mark}
            environ["VLLM_CUDA_VERSION"] = cuda.version
            out = folder / "canonical" / platform.processor
            wheels[cell] = _run_backend(repo, out, settings, environ, title, console)
            _keep_symbols(wheels[cell], prebuilt.get(cell, build_folder))
    return wheels


def _configure(
    repo: Path,
    folder: Path,
    known: Matrix,
    platform: Platform,
    compiled: Sequence[Cuda],
    toolkits: Mapping[str, Path],
) -> dict[str, str]:
    """The CMake variables for a platform: the main one compiles device code for all of them."""
    host = native.release_defines(platform, repo, find_zig())
    if platform == known.main:
        compilers = [each for cuda in compiled for each in native.of_matrix(cuda, None, toolkits)]
        return {**native.device_defines(compilers), **host}
    variants = [cuda.variant for cuda in compiled if platform in known.platforms_of(cuda)]
    made = folder / f"release-{known.main.processor}" / "kernels"
    return {"VLLM_VARIANTS": ";".join(variants), "VLLM_DEVICE_CODE": str(made), **host}


def _begin(build_folder: Path, console: Console) -> None:
    """Empties a build folder whose inputs changed: CMake's cache would keep the old paths."""
    programs = {name: metadata.version(name) for name in digest.PROGRAMS}
    for reason in configuration.begin(build_folder, programs):
        console.print(f"configuring and compiling everything again: {reason}", soft_wrap=True)


def _build_info(repo: Path, known: Matrix, commit: Commit, cell: Cell) -> BuildInfo:
    return BuildInfo(
        commit=commit.sha,
        cuda=cell.cuda.version,
        dirty=commit.dirty,
        native_digest=digest.native_digest(repo, known, cell.cuda, cell.platform),
        variant=cell.cuda.variant,
    )


def _run_backend(
    repo: Path,
    out: Path,
    settings: Mapping[str, str],
    environ: Mapping[str, str],
    title: str,
    console: Console,
) -> Path:
    def runner(
        cmd: Sequence[str],
        cwd: Optional[str] = None,
        extra_environ: Optional[Mapping[str, str]] = None,
    ) -> None:
        run_with_progress(cmd, cwd, {**environ, **(extra_environ or {})}, title, console)

    builder = ProjectBuilder(repo, python_executable=sys.executable, runner=runner)
    # A fresh folder: a wheel appears under its name complete or not at all.
    with scratch.folder(parent=out) as temporary:
        try:
            made = Path(builder.build("wheel", str(temporary), dict(settings)))
        except BuildBackendException as error:
            if not isinstance(error.exception, Failed):
                raise BuildError(f"building a wheel failed ({title}): {error}") from error
            raise BuildError(
                f"building a wheel failed ({title}):\n{_complaint(error.exception.output)}",
                means="the output of CMake or the compiler is above",
                do="fix the sources and run the same command again; it keeps what is compiled",
            ) from error
        return made.replace(out / made.name)


def _keep_symbols(wheel: Path, made: Path) -> None:
    """Copies the debug symbols in `made`, if there are any, to their place beside a wheel.

    Native files that were reused from a release have none.
    """
    build_id = symbols.build_id_of(wheel)
    if build_id is not None and (made / symbols.BUILT).is_file():
        symbols.place((made / symbols.BUILT).read_bytes(), build_id, wheel.parent)


def _complaint(output: str) -> str:
    """The output of a failed build from ninja's FAILED line on."""
    _, marker, rest = output.partition("\nFAILED: ")
    return f"FAILED: {rest}" if marker else output


def compiler_environment(
    folder: Path, commit: Commit, given: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The environment of the compilers, without any variable that could change the bits."""
    environ = {name: given[name] for name in HARMLESS if name in given}
    # The pinned programs take precedence over others of the same name.
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{given.get('PATH', os.defpath)}"
    environ["SOURCE_DATE_EPOCH"] = str(source_date_epoch(commit, given))
    environ["VLLM_TARGET_DEVICE"] = "cuda"
    # zig compiles its libc++ once per cache; by default each clone has its own.
    environ["ZIG_GLOBAL_CACHE_DIR"] = given.get("ZIG_GLOBAL_CACHE_DIR") or str(folder / "zig")
    environ["ZIG_LOCAL_CACHE_DIR"] = str(folder / "zig-local")
    environ["NINJA_STATUS"] = "[%f/%t] "
    environ[jobs.CMAKE_VARIABLE] = str(jobs.choose(given).count)
    return environ


def find_zig() -> Path:
    """The compiler of a release, in the ziglang wheel. Raises BuildError without it."""
    spec = importlib.util.find_spec("ziglang")
    if spec is None or spec.origin is None:
        raise BuildError(
            "the ziglang wheel is not installed",
            means="it is the compiler of a release",
            do="install the pinned requirements: pip install -r requirements/ci.txt",
        )
    return Path(spec.origin).with_name("zig")
