"""All that one build is told: from the environment and the machine to the variables of CMake."""

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
    report: Dict[str, str]  # for people: what was chosen, and why
    inputs: Dict[str, str]  # what CMake reads once: ci/configuration.py
    environ: Dict[str, str]  # for CMake and below


def make(
    root: Path, environ: Mapping[str, str], given: Mapping[str, object], ccache_log: Path
) -> Plan:
    """What `environ` asks for of the tree at `root`.

    given: the frontend's settings, for which CMake goes by them.
    Takes the native files of a published wheel where they are asked for. Raises a CiError that
    says which variable asks for what cannot be had.
    """
    chosen = options.read(environ)
    at_once = jobs.choose(environ)
    report = {"device": f"{chosen.device} ({chosen.device_chosen_by})"}
    commit, report["commit"] = _read_commit(root)
    # Every variable, every time: CMake remembers what an earlier build set.
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
        from backend import precompiled  # reads records in a way that came with Python 3.9

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
    """What compiles device code for which architectures, and both in words."""
    cuda = chosen.cuda
    assert cuda is not None  # the caller's condition
    if chosen.nvcc is not None:
        compiler = chosen.nvcc.compiler()
    else:
        used = toolkits.choose(environ, cuda, root, archs.gpus_here, machine())
        found = [device_compiler.nvrtc(each, root, chosen.without_nvcc) for each in used]
        if len(found) > 1:  # a release's, for a release's list
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
    """A file of what an nvcc is, and is told by the environment; new where it is another one.

    An upgrade may leave its path and its time as they were.
    """
    told = [f"{name}={value}" for name, value in environ.items() if name.startswith("NVCC_")]
    text = "\n".join([compiler.identity, *sorted(told)]) + "\n"
    path = root / "build" / f"nvcc-{compiler.version}.txt"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return path


def _read_commit(root: Path) -> Tuple[Optional[git.Head], str]:
    """The commit that is checked out at `root`, if git says so, and a line about it."""
    if not (root / ".git").exists():
        return None, "unknown: no git checkout"
    try:
        head = git.read_head(root)
    except git.GitError as error:
        words = f"{error.what} ({error.do})" if error.do else error.what
        return None, f"unknown, so vllm.__commit__ will be None: {words}"
    return head, f"{head.sha}, changed since" if head.dirty else head.sha


def _write_build_info(
    chosen: Options, commit: Optional[git.Head], digest: Optional[str], root: Path
) -> Path:
    """Where this build's build.json lies until CMake installs it.

    digest: of the native files, where they are a release's; only its compilers are known well
    enough for one.
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
