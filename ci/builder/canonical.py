"""The canonical wheel of each variant, as scikit-build-core makes it with the release's compilers.

All variants share one build folder and one configuration, so that the host library is compiled
once; each wheel installs it with its own device code.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Optional

from build import BuildBackendException, ProjectBuilder
from rich.console import Console

from ci import configuration, digest, jobs, native, scratch
from ci.builder.progress import Failed, run_with_progress
from ci.errors import CiError
from ci.git import Commit
from ci.matrix import Matrix
from ci.wheel.build_info import BuildInfo

# All that the compilers see of the environment: whatever else is set there, compilers, CMake or
# Python may read, and no pin covers it.
HARMLESS = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "LOGNAME", "TMPDIR", "TZ", "USER")


class BuildError(CiError):
    """Compiling or assembling a wheel failed."""


def source_date_epoch(commit: Commit, environ: Mapping[str, str] = os.environ) -> int:
    """The time that files in a wheel carry: ``SOURCE_DATE_EPOCH`` if set, else the commit's."""
    value = environ.get("SOURCE_DATE_EPOCH") or str(commit.time)
    if not value.isdecimal():
        raise BuildError(
            f"SOURCE_DATE_EPOCH is {value!r}",
            means="it is a number of seconds since 1970, the time that files in a wheel carry",
            do="unset it to use the time of the commit",
        )
    return int(value)


def build(
    repo: Path,
    folder: Path,
    known: Matrix,
    commit: Commit,
    *,
    toolkits: Mapping[str, Path],
    prebuilt: Mapping[str, Path],
    mark: Mapping[str, str],
    console: Console,
) -> dict[str, Path]:
    """The canonical wheel of every variant, in ``folder/canonical``.

    toolkits: what the variants that are compiled are compiled with.
    prebuilt: the native files of those that are not, laid out as in a wheel.
    mark: the variable by which processes of this build are known (`ci.lock.locked`).
    """
    compiled: dict[str, str] = {}
    if toolkits:
        compilers = [
            native.DeviceCompiler.nvrtc(known.variant(variant), path)
            for variant, path in toolkits.items()
        ]
        compiled = {
            **native.device_defines(compilers),
            **native.release_defines(known, repo, find_zig()),
        }
        # The compiler's path stays where another version is installed over it.
        programs = {name: metadata.version(name) for name in digest.PROGRAMS}
        for reason in configuration.begin(folder / "release", programs):
            console.print(f"everything is configured and compiled anew: {reason}", soft_wrap=True)
        compiled[configuration.VARIABLE] = str(configuration.wanted(folder / "release"))
    wheels: dict[str, Path] = {}
    for cuda in known.cudas:
        variant = cuda.variant
        if variant in prebuilt:
            defines = {"VLLM_VARIANTS": variant, "VLLM_PREBUILT": str(prebuilt[variant])}
            build_folder, title = folder / f"assembled-{variant}", f"{variant}: assembling"
        elif variant in toolkits:
            # The first of them compiles for all, the others find everything done.
            first = toolkits.keys().isdisjoint(wheels)
            defines, build_folder = compiled, folder / "release"
            title = "compiling" if first else f"{variant}: assembling"
        else:
            continue
        record = folder / f"release-{variant}.json"
        record.write_bytes(_build_info(repo, known, commit, variant).render())
        settings = {
            "build-dir": str(build_folder),
            "ninja.make-fallback": "false",  # the jobs are bounded in ninja's way
            "install.components": f"host;{variant};info",
            "cmake.define.VLLM_TARGET_DEVICE": "cuda",
            "cmake.define.VLLM_BUILD_INFO": str(record),
            **{f"cmake.define.{name}": value for name, value in defines.items()},
        }
        environ = {**compiler_environment(folder, commit), **mark}
        environ["VLLM_CUDA_VERSION"] = cuda.version
        wheels[variant] = _run_backend(
            repo, folder / "canonical", settings, environ, title, console
        )
    return wheels


def _build_info(repo: Path, known: Matrix, commit: Commit, variant: str) -> BuildInfo:
    cuda = known.variant(variant)
    return BuildInfo(
        commit=commit.sha,
        cuda=cuda.version,
        dirty=commit.dirty,
        native_digest=digest.native_digest(repo, known, cuda),
        variant=variant,
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
                means="the words of CMake or the compiler are above",
                do="correct the sources; the same command goes on from what is compiled",
            ) from error
        return made.replace(out / made.name)


def _complaint(output: str) -> str:
    """The part of a failed build's output that is about the failure."""
    _, marker, rest = output.partition("\nFAILED: ")
    return f"FAILED: {rest}" if marker else output


def compiler_environment(
    folder: Path, commit: Commit, given: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The environment of the compilers, in which nothing that a person set changes the bits."""
    environ = {name: given[name] for name in HARMLESS if name in given}
    # The pinned programs go before others of their names.
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{given.get('PATH', os.defpath)}"
    environ["SOURCE_DATE_EPOCH"] = str(source_date_epoch(commit, given))
    environ["VLLM_TARGET_DEVICE"] = "cuda"
    # zig compiles its libc++ once per machine that shares a cache; by default that is the clone.
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
