"""Dynamic fields of METADATA for scikit-build-core: version and dependencies of a variant."""

import os
from typing import Any, Dict, List, Mapping, Union

from backend import options
from ci import matrix, versions

# An sdist is of no variant; the backend says so before it makes one.
building_sdist = False


def dynamic_metadata(
    settings: Mapping[str, Any], project: Mapping[str, Any]
) -> Dict[str, Union[str, List[str]]]:
    """``version`` and ``dependencies``, for the variant that the environment asks for.

    settings: the entry in pyproject.toml; its ``others`` are the dependencies beside torch.
    """
    if building_sdist:
        local, torch = None, options.torch_requirement(matrix.load().default)
    else:
        chosen = options.read(os.environ)
        local, torch = chosen.local, chosen.torch
    return {
        "version": versions.public(matrix.load().version, local),
        "dependencies": [torch, *settings["others"]],
    }


def dynamic_wheel(settings: Mapping[str, Any]) -> Dict[str, bool]:
    """Which fields a wheel made from an sdist may have another value of."""
    return {"dependencies": True}
