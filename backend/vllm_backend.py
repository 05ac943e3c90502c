"""PEP 517 backend: scikit-build-core, told what ci/matrix.toml and the environment say.

scikit-build-core does all the work. What pyproject.toml cannot express is here: which CUDA to build
for and with what, and what build.json says. A caller that passes
``cmake.define.VLLM_BUILD_INFO`` itself, as `python -m ci build` does, has decided all of that.
"""

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Union

from scikit_build_core import build as skbuild

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT)]

import vllm_metadata  # noqa: E402
import vllm_options  # noqa: E402

from ci import git, native  # noqa: E402
from ci.errors import CiError  # noqa: E402
from ci.jobs import CMAKE_VARIABLE, job_count  # noqa: E402
from ci.wheel.build_info import BuildInfo  # noqa: E402

Settings = Dict[str, Union[str, List[str]]]
ConfigSettings = Optional[Mapping[str, Union[str, List[str]]]]

DECIDED = "cmake.define.VLLM_BUILD_INFO"


def build_wheel(
    wheel_directory: str,
    config_settings: ConfigSettings = None,
    metadata_directory: Optional[str] = None,
) -> str:
    """PEP 517. `metadata_directory` has no build.json yet, so it is not compared with the wheel."""
    return skbuild.build_wheel(wheel_directory, _settings(config_settings), None)


def build_editable(
    wheel_directory: str,
    config_settings: ConfigSettings = None,
    metadata_directory: Optional[str] = None,
) -> str:
    """PEP 660."""
    return skbuild.build_editable(wheel_directory, _settings(config_settings), None)


def build_sdist(sdist_directory: str, config_settings: ConfigSettings = None) -> str:
    """PEP 517. An sdist is of no variant, whatever the environment asks for."""
    vllm_metadata.building_sdist = True
    return skbuild.build_sdist(sdist_directory, dict(config_settings or {}))


def prepare_metadata_for_build_wheel(
    metadata_directory: str, config_settings: ConfigSettings = None
) -> str:
    """PEP 517."""
    settings = {**_tags(_options()), **(config_settings or {})}
    return skbuild.prepare_metadata_for_build_wheel(metadata_directory, settings)


def prepare_metadata_for_build_editable(
    metadata_directory: str, config_settings: ConfigSettings = None
) -> str:
    """PEP 660."""
    settings = {**_tags(_options()), **(config_settings or {})}
    return skbuild.prepare_metadata_for_build_editable(metadata_directory, settings)


def get_requires_for_build_wheel(config_settings: ConfigSettings = None) -> List[str]:
    """PEP 517: cmake and ninja where the machine has none, and NVRTC where it has no nvcc."""
    required = skbuild.get_requires_for_build_wheel(dict(config_settings or {}))
    return required + _options().toolkit_requirements()


def get_requires_for_build_editable(config_settings: ConfigSettings = None) -> List[str]:
    """PEP 660."""
    return get_requires_for_build_wheel(config_settings)


def get_requires_for_build_sdist(config_settings: ConfigSettings = None) -> List[str]:
    """PEP 517."""
    return skbuild.get_requires_for_build_sdist(dict(config_settings or {}))


def _options() -> vllm_options.Options:
    with _ending_with_its_message():
        return vllm_options.read()


@contextmanager
def _ending_with_its_message() -> Iterator[None]:
    """An error in what the environment asks for ends the build with its message alone."""
    try:
        yield
    except CiError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _settings(config_settings: ConfigSettings) -> Settings:
    """`config_settings` with what this build needs beside, unless its caller has seen to that."""
    given = dict(config_settings or {})
    if DECIDED in given:
        return given
    options = _options()
    _bound_jobs()
    defines = {"VLLM_TARGET_DEVICE": options.device, "VLLM_BUILD_INFO": str(_build_info(options))}
    if options.cuda is not None:
        compiler = native.DeviceCompiler(
            options.variant,
            options.cuda.archs,
            options.cuda.ptx,
            nvcc=options.nvcc,
            toolkit=None if options.nvcc else vllm_options.stable_toolkit(options.cuda, ROOT),
        )
        defines.update(native.device_defines([compiler]))
    settings: Settings = {f"cmake.define.{name}": value for name, value in defines.items()}
    return {**settings, **_tags(options), **given}


def _bound_jobs() -> None:
    """Lets ``MAX_JOBS`` bound the compilers that CMake starts in this process's children."""
    with _ending_with_its_message():
        jobs = job_count()
    if jobs is not None:
        os.environ[CMAKE_VARIABLE] = str(jobs)


def _tags(options: vllm_options.Options) -> Settings:
    """A wheel without native code is for every Python and platform."""
    return {"wheel.platlib": "false", "wheel.py-api": "py3"} if options.device == "empty" else {}


def _build_info(options: vllm_options.Options) -> Path:
    """Where this build's build.json lies until CMake installs it."""
    try:
        commit: Optional[git.Commit] = git.read(ROOT, allow_dirty=True)
    except git.GitError:
        commit = None  # an sdist, or a machine without git: the wheel says that it does not know
    info = BuildInfo(
        commit=commit.sha if commit else None,
        cuda=options.cuda.version if options.cuda else None,
        dirty=commit.dirty if commit else False,
        native_digest=None,  # only a release's compilers are known well enough for one
        variant=options.variant,
    )
    path = ROOT / "build" / f"build-{options.variant}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(info.render())
    return path
