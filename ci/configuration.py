"""Records the inputs of a CMake configuration, so that no build reuses one with other inputs.

CMake reads compilers, flags and the generator once, when a build folder is new, and keeps them
there. The inputs are recorded by the configuration itself, as its last act: one that failed leaves
no record (cmake/record_configuration.cmake).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "VLLM_CONFIGURATION"  # a CMake variable: the file that becomes RECORD
RECORD = "configuration.json"
UNSET = "not set"

# What CMake, compilers and scikit-build-core read from the environment, besides what each build
# passes explicitly.
NAMES = (
    "CC",
    "CXX",
    "CXXFLAGS",
    "LDFLAGS",
    "CPATH",
    "CPLUS_INCLUDE_PATH",
    "LIBRARY_PATH",
    "COMPILER_PATH",
    "GCC_EXEC_PREFIX",
)
PREFIXES = ("CMAKE_", "SKBUILD_")
NOT_INPUTS = ("CMAKE_BUILD_PARALLEL_LEVEL",)  # changes only the time


def of_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of `environ` that decide a configuration."""
    return {
        name: value
        for name, value in environ.items()
        if (name in NAMES or name.startswith(PREFIXES)) and name not in NOT_INPUTS
    }


def of_settings(settings: Mapping[str, object]) -> dict[str, str]:
    """The settings for scikit-build-core that decide a configuration."""
    return {
        f"the setting {name}": str(value)
        for name, value in settings.items()
        if "cmake" in name or "ninja" in name
    }


def begin(folder: Path, inputs: Mapping[str, str]) -> list[str]:
    """Prepares `folder` for a configuration from `inputs`; returns the reasons why it was emptied.

    It is emptied, compiled files included, if an earlier configuration had other inputs or did not
    finish. Set ``VLLM_CONFIGURATION`` to `wanted(folder)` for the next one.
    """
    text = json.dumps(dict(inputs), indent=1, sort_keys=True) + "\n"
    reasons = _differences(folder, inputs)
    if reasons:
        shutil.rmtree(folder)
    path = wanted(folder)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return reasons


def wanted(folder: Path) -> Path:
    """Where the inputs of the next configuration of `folder` lie until CMake records them."""
    return folder.with_name(f"{folder.name}.json")


def _differences(folder: Path, inputs: Mapping[str, str]) -> list[str]:
    if not (folder / "CMakeCache.txt").exists():
        return []  # not configured yet
    try:
        before = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return ["its last configuration did not finish"]
    return [
        f"{name} changed from {before.get(name, UNSET)} to {inputs.get(name, UNSET)}"
        for name in sorted({*before, *inputs})
        if before.get(name) != inputs.get(name)
    ]
