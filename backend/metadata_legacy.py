"""`backend.metadata` for scikit-build-core 0.12; to be removed with support for Python 3.8."""

from pathlib import Path
from typing import Any, List, Mapping, Union

from backend import metadata
from ci import toml


def dynamic_metadata(
    field: str, settings: Mapping[str, Any], project: Mapping[str, Any]
) -> Union[str, List[str]]:
    """The value of one field."""
    pyproject = Path(__file__).resolve().parents[1] / "pyproject.toml"
    (entry,) = toml.read(pyproject)["tool"]["dynamic-metadata"]
    return metadata.dynamic_metadata(entry, project)[field]
