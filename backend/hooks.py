"""PEP 517 backend: scikit-build-core, told what ci/matrix.toml and the environment say.

scikit-build-core does all the work. What pyproject.toml cannot express is here: which CUDA to build
for and with what, and what build.json says. A caller that passes
``cmake.define.VLLM_BUILD_INFO`` itself, as `python -m ci build` does, has decided all of that.
"""

import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Union

from scikit_build_core import build as skbuild

from backend import ccache, metadata, options, plan
from ci.errors import CiError
from ci.jobs import CMAKE_VARIABLE

Settings = Dict[str, Union[str, List[str]]]
ConfigSettings = Optional[Mapping[str, Union[str, List[str]]]]
Hook = Callable[..., str]

ROOT = Path(__file__).resolve().parent.parent
DECIDED = "cmake.define.VLLM_BUILD_INFO"
BUILD = ROOT / "build" / "development"
CCACHE_LOG = ROOT / "build" / "ccache.log"


def build_wheel(
    wheel_directory: str,
    config_settings: ConfigSettings = None,
    metadata_directory: Optional[str] = None,
) -> str:
    """PEP 517. `metadata_directory` has no build.json yet, so it is not compared with the wheel."""
    return _build(skbuild.build_wheel, wheel_directory, config_settings)


def build_editable(
    wheel_directory: str,
    config_settings: ConfigSettings = None,
    metadata_directory: Optional[str] = None,
) -> str:
    """PEP 660."""
    return _build(skbuild.build_editable, wheel_directory, config_settings)


def build_sdist(sdist_directory: str, config_settings: ConfigSettings = None) -> str:
    """PEP 517. An sdist is of no variant, whatever the environment asks for."""
    metadata.building_sdist = True
    return skbuild.build_sdist(sdist_directory, dict(config_settings or {}))


def prepare_metadata_for_build_wheel(
    metadata_directory: str, config_settings: ConfigSettings = None
) -> str:
    """PEP 517."""
    settings = {**_common(_options()), **(config_settings or {})}
    return skbuild.prepare_metadata_for_build_wheel(metadata_directory, settings)


def prepare_metadata_for_build_editable(
    metadata_directory: str, config_settings: ConfigSettings = None
) -> str:
    """PEP 660."""
    settings = {**_common(_options()), **(config_settings or {})}
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


def _options() -> options.Options:
    with _ending_with_its_message():
        return options.read()


@contextmanager
def _ending_with_its_message() -> Iterator[None]:
    """An error in what the environment asks for ends the build with its message alone."""
    try:
        yield
    except CiError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _build(hook: Hook, wheel_directory: str, config_settings: ConfigSettings) -> str:
    """Runs a hook of scikit-build-core with what the environment asks for.

    A caller that has DECIDED is left alone; anybody else is told what is built and why, and what
    ccache had of it.
    """
    given = dict(config_settings or {})
    if DECIDED in given:
        return hook(wheel_directory, given, None)
    with _one_at_a_time():
        CCACHE_LOG.unlink(missing_ok=True)
        with _ending_with_its_message():
            chosen = plan.make(ROOT, os.environ, CCACHE_LOG)
        for name, value in chosen.report.items():
            print(f"vllm: {name:<9} {value}", flush=True)
        os.environ[CMAKE_VARIABLE] = str(chosen.jobs.count)
        defines = chosen.defines.items()
        settings: Settings = {f"cmake.define.{name}": value for name, value in defines}
        settings.update(_common(chosen.options))
        settings["cmake.args"] = "-Wno-deprecated"  # cmake/add_device_code.cmake knows better
        _keep_what_is_compiled()
        made = hook(wheel_directory, {**settings, **given}, None)
        if chosen.defines["VLLM_CCACHE"]:
            print(f"vllm: ccache    {ccache.summary(CCACHE_LOG)}", flush=True)
    return made


def _keep_what_is_compiled() -> None:
    """Lets scikit-build-core go on in a build folder that another environment made.

    It would empty the folder, and pip makes a new environment for each build. Nothing of that
    environment is in a compile command; its ninja is in CMake's cache, and is named anew.
    """
    origin = BUILD / ".skbuild-info.json"
    if origin.is_file() and json.loads(origin.read_text())["source_dir"] == str(ROOT):
        origin.unlink()


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Two builds of one tree would write the same files."""
    folder = ROOT / "build"
    folder.mkdir(exist_ok=True)
    if sys.platform == "win32":  # has no such lock, and nothing is compiled there
        yield
        return
    import fcntl

    with (folder / "development.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("vllm: waiting for another build of this tree to end", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _common(chosen: options.Options) -> Settings:
    """What the hooks for metadata and those for wheels have to agree on."""
    # Inside of the tree, for every Python and frontend: what was compiled once stays compiled.
    settings: Settings = {"build-dir": str(BUILD)}
    if chosen.device == "empty":  # a wheel without native code is for every Python and platform
        settings.update({"wheel.platlib": "false", "wheel.py-api": "py3"})
    return settings
