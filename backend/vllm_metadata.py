"""Dynamic fields of METADATA for scikit-build-core: version and dependencies of a variant."""

import os
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Union

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

import vllm_options  # noqa: E402

from ci import matrix, versions  # noqa: E402

# An sdist is of no variant; the backend says so before it makes one.
building_sdist = False


def dynamic_metadata(
    settings: Mapping[str, Any], project: Mapping[str, Any]
) -> Dict[str, Union[str, List[str]]]:
    """``version`` and ``dependencies``, for the variant that the environment asks for.

    settings: the entry in pyproject.toml; its ``others`` are the dependencies beside torch.
    """
    if building_sdist:
        local, torch = None, vllm_options.torch_requirement(matrix.load().default)
    else:
        options = vllm_options.read(os.environ)
        local, torch = options.local, options.torch
    return {
        "version": versions.public(matrix.load().version, local),
        "dependencies": [torch, *settings["others"]],
    }


def dynamic_wheel(settings: Mapping[str, Any]) -> Dict[str, bool]:
    """Which fields a wheel made from an sdist may have another value of."""
    return {"dependencies": True}
