"""Plans a build: from the environment and the machine to CMake's variables."""

from dataclasses import dataclass
from pathlib import Path
from platform import machine
from typing import Dict, List, Mapping, Optional, Tuple

from backend import archs, ccache, device_compiler, host_compiler, options, toolkits
from backend.device_compiler import Compiler
from backend.options import Options
from ci import configuration, git, jobs, native
from ci.wheel.build_info import BuildInfo


@dataclass(frozen=True)
class Plan:
    """A build, before anything is compiled."""

    options: Options
    jobs: jobs.Jobs
    defines: Dict[str, str]  # for CMake
    report: Dict[str, str]  # for people: the choices, and why
    inputs: Dict[str, str]  # inputs of the configuration: ci/configuration.py
    environ: Dict[str, str]  # for CMake and its child processes


def make(
    root: Path, environ: Mapping[str, str], given: Mapping[str, object], ccache_log: Path
) -> Plan:
    """Plans the build of the tree at `root` from `environ`.

    given: the frontend's settings, which are also passed to CMake. Downloads the native files of a
    published wheel if they are requested. Raises a CiError that names the variable that cannot be
    satisfied.
    """
    chosen = options.read(environ)
    at_once = jobs.choose(environ)
    report = {"device": f"{chosen.device} ({chosen.device_chosen_by})"}
    commit, report["commit"] = _read_commit(root)
    # All variables are set every time, because CMake caches those of earlier builds.
    defines = {
        "VLLM_TARGET_DEVICE": chosen.device,
        "VLLM_VARIANTS": "",
        "VLLM_PREBUILT": "",
        "VLLM_CCACHE": "",
        "VLLM_CCACHE_LOG": str(ccache_log),
        "VLLM_JOBS": str(at_once.count),
    }
    inputs = configuration.of_environment(environ)
    inputs.update(configuration.of_settings(given))
    for_cmake = {jobs.CMAKE_VARIABLE: str(at_once.count)}
    digest = None
    if chosen.cuda is not None and chosen.precompiled:
        from backend import precompiled  # needs Python 3.9

        found = precompiled.native_files(environ, chosen.cuda, root)
        digest = found.digest
        defines.update(VLLM_PREBUILT=str(found.folder), VLLM_VARIANTS=chosen.variant)
        report["native"] = f"{chosen.variant}, {digest}, from {found.origin}"
    elif chosen.cuda is not None:
        compilers, report["compiler"], report["archs"] = _device_code(chosen, environ, root)
        defines.update(native.device_defines(compilers))
    if chosen.compiles:
        host = host_compiler.find(environ, root)
        if host is None and not any(word in str(inputs) for word in ("COMPILER", "TOOLCHAIN")):
            raise host_compiler.missing()
        cache = ccache.find(environ, host.words if host else ())
        defines["VLLM_CCACHE"] = str(cache.program or "")
        if host is not None:
            report["host"] = host.title
            for_cmake["CXX"] = inputs["CXX"] = host.command
            inputs["the host compiler"] = host.version
        report.update(jobs=str(at_once), ccache=cache.reason)
    defines["VLLM_BUILD_INFO"] = str(_write_build_info(chosen, commit, digest, root))
    return Plan(chosen, at_once, defines, report, inputs, for_cmake)


def _device_code(
    chosen: Options, environ: Mapping[str, str], root: Path
) -> Tuple[List[native.DeviceCompiler], str, str]:
    """The compilers with their architectures, and a description of each."""
    cuda = chosen.cuda
    assert cuda is not None  # checked by the caller
    if chosen.nvcc is not None:
        compiler = chosen.nvcc.compiler()
    else:
        used = toolkits.choose(environ, cuda, root, archs.gpus_here, machine())
        found = [device_compiler.nvrtc(each, root, chosen.without_nvcc) for each in used]
        if len(found) > 1:  # all compilers of a release, for its architectures
            folders = {each.version: each.toolkit for each in found if each.toolkit is not None}
            title = f"NVRTC {', '.join(folders)} of this tree ({chosen.without_nvcc})"
            made = native.of_matrix(cuda, machine(), folders)
            return made, title, str(archs.of_matrix(cuda, machine()))
        (compiler,) = found
    targets = archs.choose(environ, cuda, compiler, archs.gpus_here, machine())
    device = native.DeviceCompiler(
        chosen.variant,
        compiler.version,
        targets.cubins,
        targets.ptx,
        nvcc=compiler.nvcc,
        nvcc_words=_write_words(compiler, environ, root) if compiler.nvcc else None,
        toolkit=compiler.toolkit,
    )
    return [device], compiler.title, str(targets)


def _write_words(compiler: Compiler, environ: Mapping[str, str], root: Path) -> Path:
    """Writes a file that identifies an nvcc and its variables; it changes only if these do.

    An upgrade may keep the path and the time of nvcc, so ninja would not notice it.
    """
    told = [f"{name}={value}" for name, value in environ.items() if name.startswith("NVCC_")]
    text = "\n".join([compiler.identity, *sorted(told)]) + "\n"
    path = root / "build" / f"nvcc-{compiler.version}.txt"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return path


def _read_commit(root: Path) -> Tuple[Optional[git.Head], str]:
    """The commit that is checked out at `root`, or None, and a line about it."""
    if not (root / ".git").exists():
        return None, "unknown: not a git checkout"
    try:
        head = git.read_head(root)
    except git.GitError as error:
        words = f"{error.what} ({error.do})" if error.do else error.what
        return None, f"unknown, so vllm.__commit__ will be None: {words}"
    return head, f"{head.sha}, with uncommitted changes" if head.dirty else head.sha


def _write_build_info(
    chosen: Options, commit: Optional[git.Head], digest: Optional[str], root: Path
) -> Path:
    """Writes this build's build.json, for CMake to install; returns its path.

    digest: of the native files, if they come from a release: only its compilers are pinned.
    """
    info = BuildInfo(
        commit=commit.sha if commit else None,
        cuda=chosen.cuda.version if chosen.cuda else None,
        dirty=commit.dirty if commit else False,
        native_digest=digest,
        variant=chosen.variant,
    )
    path = root / "build" / f"build-{chosen.variant}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(info.render())
    return path
