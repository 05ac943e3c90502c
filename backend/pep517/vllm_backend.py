"""The entry point for pip, uv and build, alone in its folder.

A frontend imports every module that it finds in ``backend-path`` from there. If that were the root
of the tree, its folder cmake/ would hide the installed package cmake.
"""

import sys
from pathlib import Path

# On sys.path, an installed package takes precedence over a folder without __init__.py.
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
