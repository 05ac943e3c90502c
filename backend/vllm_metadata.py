"""Dynamic fields of METADATA for scikit-build-core: version and torch requirement of a variant."""

import os
import sys
from pathlib import Path
from typing import Any, List, Mapping, Union

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(1, str(Path(__file__).resolve().parent.parent))

import vllm_options

from ci import matrix, versions


def dynamic_metadata(
    field: str, settings: Mapping[str, Any], project: Mapping[str, Any]
) -> Union[str, List[str]]:
    """The value of `field`, ``version`` or ``dependencies``, for the variant that is built.

    settings: the table in pyproject.toml; its ``others`` are the dependencies beside torch.
    """
    options = vllm_options.read(os.environ)
    if field == "version":
        return versions.public(matrix.load().version, options.local)
    if field == "dependencies":
        return [options.torch, *settings["others"]]
    raise ValueError(f"{field} is not a field that this provider knows")
