"""The module that pip, uv and build look for, alone in its folder.

A frontend takes every module from ``backend-path`` that it finds there. Were that the root of the
tree, its folder cmake/ would hide the cmake that is installed.
"""

import sys
from pathlib import Path

# As an entry of sys.path, where a package that is installed goes before a folder of its name.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from backend.hooks import (
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]
