"""TOML files: by the standard library's `tomllib`, which Python before 3.11 has as `tomli`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TomlError = tomllib.TOMLDecodeError
loads = tomllib.loads


def read(path: Path) -> dict[str, Any]:
    """The table in the file at `path`. Raises OSError and TomlError."""
    return loads(path.read_text(encoding="utf-8"))
