"""PEP 517 backend: scikit-build-core with settings from ci/matrix.toml and the environment.

scikit-build-core does the build. This module adds what pyproject.toml cannot express: the CUDA
version, the compiler, and build.json. A caller that passes ``cmake.define.VLLM_BUILD_INFO`` itself,
as `python -m ci build` does, has decided all of that.
"""

import functools
import json
import os
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, TypeVar, Union, cast

from scikit_build_core import build as skbuild

from backend import ccache, metadata, options, plan, toolkits
from ci import configuration, environment
from ci.errors import CiError, of_system
from ci.lock import locked

Settings = Dict[str, Union[str, List[str]]]
ConfigSettings = Optional[Mapping[str, Union[str, List[str]]]]
Hook = TypeVar("Hook", bound=Callable[..., Any])

ROOT = Path(__file__).resolve().parent.parent
DECIDED = "cmake.define.VLLM_BUILD_INFO"
BUILD = ROOT / "build" / "development"
ASSEMBLY = ROOT / "build" / "assembled"  # for builds that compile nothing
LOCK = ROOT / "build" / "development.lock"
CCACHE_LOG = ROOT / "build" / "ccache.log"


def _for_people(hook: Hook) -> Hook:
    """Wraps a hook with error messages for people.

    An error of the environment or the machine is printed without a traceback, and relative paths
    are resolved against the current folder, not against that of each child process.
    """

    @functools.wraps(hook)
    def call(*arguments: Any, **named: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # a path may not be valid text
                stream.reconfigure(errors="backslashreplace")
        os.environ.update(environment.with_absolute_paths(os.environ, Path.cwd()))
        try:
            return hook(*arguments, **named)
        except (CiError, OSError) as error:
            complaint = of_system(error) if isinstance(error, OSError) else error
            print(f"error: {complaint}", file=sys.stderr)
            raise SystemExit(1) from None

    return cast("Hook", call)


@_for_people
def build_wheel(
    wheel_directory: str,
    config_settings: ConfigSettings = None,
    metadata_directory: Optional[str] = None,
) -> str:
    """PEP 517. `metadata_directory` has no build.json yet, so it is not compared with the wheel."""
    return _build(skbuild.build_wheel, wheel_directory, config_settings)


@_for_people
def build_editable(
    wheel_directory: str,
    config_settings: ConfigSettings = None,
    metadata_directory: Optional[str] = None,
) -> str:
    """PEP 660."""
    return _build(skbuild.build_editable, wheel_directory, config_settings)


@_for_people
def build_sdist(sdist_directory: str, config_settings: ConfigSettings = None) -> str:
    """PEP 517. An sdist has no variant, whatever the environment says."""
    metadata.building_sdist = True
    try:
        return skbuild.build_sdist(sdist_directory, dict(config_settings or {}))
    finally:
        metadata.building_sdist = False


@_for_people
def prepare_metadata_for_build_wheel(
    metadata_directory: str, config_settings: ConfigSettings = None
) -> str:
    """PEP 517."""
    settings = {**_common(_options(config_settings)), **(config_settings or {})}
    return skbuild.prepare_metadata_for_build_wheel(metadata_directory, settings)


@_for_people
def prepare_metadata_for_build_editable(
    metadata_directory: str, config_settings: ConfigSettings = None
) -> str:
    """PEP 660."""
    settings = {**_common(_options(config_settings)), **(config_settings or {})}
    return skbuild.prepare_metadata_for_build_editable(metadata_directory, settings)


@_for_people
def get_requires_for_build_wheel(config_settings: ConfigSettings = None) -> List[str]:
    """PEP 517: cmake and ninja if the machine has none, and NVRTC if it has no nvcc."""
    required = skbuild.get_requires_for_build_wheel(dict(config_settings or {}))
    return required + toolkits.requirements(_options(config_settings), os.environ, ROOT)


def get_requires_for_build_editable(config_settings: ConfigSettings = None) -> List[str]:
    """PEP 660."""
    return get_requires_for_build_wheel(config_settings)


@_for_people
def get_requires_for_build_sdist(config_settings: ConfigSettings = None) -> List[str]:
    """PEP 517."""
    return skbuild.get_requires_for_build_sdist(dict(config_settings or {}))


def _build(hook: Callable[..., str], wheel_directory: str, config_settings: ConfigSettings) -> str:
    """Runs a hook of scikit-build-core with the settings from the environment.

    If the caller passes DECIDED, its settings are used unchanged. Otherwise, the choices with their
    reasons and ccache's hits are printed.
    """
    given = dict(config_settings or {})
    metadata.decided = DECIDED in given
    if metadata.decided:
        return hook(wheel_directory, given, None)
    _check_folder()
    with locked(LOCK, lambda words: _say("lock", words)) as mark:
        CCACHE_LOG.unlink(missing_ok=True)
        chosen = plan.make(ROOT, os.environ, given, CCACHE_LOG)
        for name, value in chosen.report.items():
            _say(name, value)
        os.environ.update({**chosen.environ, **mark})
        settings: Settings = {f"cmake.define.{k}": value for k, value in chosen.defines.items()}
        settings.update(_common(chosen.options))
        settings["cmake.args"] = (
            "-Wno-deprecated"  # cmake/add_device_code.cmake sets CMP0116 to OLD on purpose
        )
        if chosen.options.compiles:
            for reason in configuration.begin(BUILD, chosen.inputs):
                _say("clean", f"configuring and compiling everything again: {reason}")
            settings[f"cmake.define.{configuration.VARIABLE}"] = str(configuration.wanted(BUILD))
            _keep_what_is_compiled()
        made = hook(wheel_directory, {**settings, **given}, None)
        if chosen.defines["VLLM_CCACHE"]:
            _say("ccache", ccache.summary(CCACHE_LOG))
    return made


def _options(config_settings: ConfigSettings) -> options.Options:
    """What the environment asks for; of this machine's compilers only if they are used."""
    metadata.decided = DECIDED in (config_settings or {})
    return options.read(decided=metadata.decided)


def _check_folder() -> None:
    """Raises CiError for a folder that CMake does not support, before its obscure errors."""
    try:
        str(ROOT).encode("utf-8")
        listed = ";" in str(ROOT)
    except UnicodeEncodeError:
        listed = True
    if listed:
        raise CiError(
            f"the source tree is in {ROOT}",
            means="CMake does not support a folder whose path has a semicolon or is not UTF-8",
            do="move or copy the tree to a folder with another name",
        )


def _say(about: str, words: str) -> None:
    print(f"vllm: {about:<9} {words}", flush=True)


def _keep_what_is_compiled() -> None:
    """Lets scikit-build-core reuse a build folder that another environment created.

    It would empty the folder, and pip creates a new environment for each build. No compile command
    depends on the environment; the path of ninja in CMake's cache is updated.
    """
    origin = BUILD / ".skbuild-info.json"
    try:
        ours = json.loads(origin.read_text(encoding="utf-8"))["source_dir"] == str(ROOT)
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError):
        ours = True  # incomplete, because its writer was killed
    if ours:
        origin.unlink()


def _common(chosen: options.Options) -> Settings:
    """The settings shared by the hooks for metadata and for wheels."""
    # One folder in the tree for every Python and frontend, so that nothing is compiled twice.
    settings: Settings = {"build-dir": str(BUILD if chosen.compiles else ASSEMBLY)}
    if chosen.device == "empty":  # without native code: for every Python and platform
        settings.update({"wheel.platlib": "false", "wheel.py-api": "py3"})
    return settings
