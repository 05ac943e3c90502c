"""Dynamic metadata for scikit-build-core: version and dependencies of a variant."""

import os
from email.parser import BytesParser
from pathlib import Path
from typing import Any, Dict, List, Mapping, Union

from backend import options
from ci import matrix, versions

# Exists only in an sdist.
PKG_INFO = Path(__file__).resolve().parent.parent / "PKG-INFO"

# Set by the backend's hooks: an sdist has no variant, and this machine's compilers do not matter to
# a caller that has decided on others.
building_sdist = False
decided = False


def dynamic_metadata(
    settings: Mapping[str, Any], project: Mapping[str, Any]
) -> Dict[str, Union[str, List[str]]]:
    """``version`` and ``dependencies`` of the variant that the environment selects.

    A wheel built from an sdist keeps the sdist's version, because pip and uv expect it; its variant
    is in build.json.

    settings: the entry in pyproject.toml; its ``others`` are the dependencies other than torch.
    """
    if building_sdist:
        local, torch = None, options.torch_requirement(matrix.load().default)
    else:
        chosen = options.read(os.environ, decided=decided)
        local, torch = chosen.local, chosen.torch
    version = versions.public(matrix.load().version, local)
    if PKG_INFO.is_file():
        version = str(BytesParser().parsebytes(PKG_INFO.read_bytes(), headersonly=True)["Version"])
    return {"version": version, "dependencies": [torch, *settings["others"]]}


def dynamic_wheel(settings: Mapping[str, Any]) -> Dict[str, bool]:
    """The fields that may differ between an sdist and a wheel built from it."""
    return {"dependencies": True}
