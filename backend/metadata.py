"""Dynamic fields of METADATA for scikit-build-core: version and dependencies of a variant."""

import os
from email.parser import BytesParser
from pathlib import Path
from typing import Any, Dict, List, Mapping, Union

from backend import options
from ci import matrix, versions

# Only an sdist has it.
PKG_INFO = Path(__file__).resolve().parent.parent / "PKG-INFO"

# What the backend's hooks say before scikit-build-core asks: an sdist is of no variant, and the
# machine's compilers do not matter to a caller that has decided on others.
building_sdist = False
decided = False


def dynamic_metadata(
    settings: Mapping[str, Any], project: Mapping[str, Any]
) -> Dict[str, Union[str, List[str]]]:
    """``version`` and ``dependencies``, for the variant that the environment asks for.

    What is built from an sdist has the sdist's version, whatever the machine compiles it with:
    pip and uv asked for that one. Its variant is in build.json.

    settings: the entry in pyproject.toml; its ``others`` are the dependencies beside torch.
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
    """Which fields a wheel made from an sdist may have another value of."""
    return {"dependencies": True}
