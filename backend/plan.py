"""All that one build is told: from the environment and the machine to the variables of CMake."""

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Mapping, Optional

from backend import archs, ccache, device_compiler, options, precompiled
from backend.options import Options
from ci import git, jobs, native
from ci.wheel.build_info import BuildInfo


@dataclass(frozen=True)
class Plan:
    """A build, before anything is compiled."""

    options: Options
    jobs: jobs.Jobs
    defines: Dict[str, str]  # for CMake
    report: Dict[str, str]  # for people: what was chosen, and why


def make(root: Path, environ: Mapping[str, str], ccache_log: Path) -> Plan:
    """What `environ` asks for of the tree at `root`.

    Takes the native files of a published wheel where they are asked for. Raises a CiError that
    says which variable asks for what cannot be had.
    """
    chosen = options.read(environ)
    compilers = jobs.choose(environ)
    report = {"device": f"{chosen.device} ({chosen.device_chosen_by})"}
    # Every variable, every time: CMake remembers what an earlier build set.
    defines = {
        "VLLM_TARGET_DEVICE": chosen.device,
        "VLLM_VARIANTS": "",
        "VLLM_PREBUILT": "",
        "VLLM_CCACHE": "",
        "VLLM_CCACHE_LOG": str(ccache_log),
        "VLLM_JOBS": str(compilers.count),
    }
    digest = None
    if chosen.cuda is not None and chosen.precompiled:
        found = precompiled.native_files(environ, chosen.cuda, root)
        digest = found.digest
        defines.update(VLLM_PREBUILT=str(found.folder), VLLM_VARIANTS=chosen.variant)
        report["native"] = f"{chosen.variant}, {digest}, from {found.origin}"
    elif chosen.cuda is not None:
        cuda, nvcc = chosen.cuda, chosen.nvcc
        if nvcc is not None:
            compiler = nvcc.compiler()
        else:
            compiler = device_compiler.nvrtc(cuda, root, chosen.without_nvcc)
        targets = archs.choose(environ, cuda, compiler, archs.gpus_here)
        report["compiler"] = compiler.title
        report["archs"] = str(targets)
        device = native.DeviceCompiler(
            cuda.variant, targets.cubins, targets.ptx, nvcc=compiler.nvcc, toolkit=compiler.toolkit
        )
        defines.update(native.device_defines([device]))
    if chosen.device != "empty" and not chosen.precompiled:
        cache = ccache.find(environ)
        defines["VLLM_CCACHE"] = str(cache.program or "")
        report.update(jobs=str(compilers), ccache=cache.reason)
    defines["VLLM_BUILD_INFO"] = str(_build_info(chosen, digest, root))
    return Plan(chosen, compilers, defines, report)


def _build_info(options: Options, digest: Optional[str], root: Path) -> Path:
    """Where this build's build.json lies until CMake installs it.

    digest: of the native files, where they are a release's; only its compilers are known well
    enough for one.
    """
    try:
        commit: Optional[git.Commit] = git.read(root, allow_dirty=True)
    except git.GitError:
        commit = None  # an sdist, or a machine without git: the wheel says that it does not know
    info = BuildInfo(
        commit=commit.sha if commit else None,
        cuda=options.cuda.version if options.cuda else None,
        dirty=commit.dirty if commit else False,
        native_digest=digest,
        variant=options.variant,
    )
    path = root / "build" / f"build-{options.variant}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(info.render())
    return path
