"""`vllm_metadata` as scikit-build-core 0.12 calls it; goes when Python 3.8 does."""

import sys
from pathlib import Path
from typing import Any, List, Mapping, Union

sys.path.insert(0, str(Path(__file__).resolve().parent))

import vllm_metadata

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def dynamic_metadata(
    field: str, settings: Mapping[str, Any], project: Mapping[str, Any]
) -> Union[str, List[str]]:
    """The value of one field."""
    pyproject = Path(__file__).resolve().parents[1] / "pyproject.toml"
    (entry,) = tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["dynamic-metadata"]
    return vllm_metadata.dynamic_metadata(entry, project)[field]
