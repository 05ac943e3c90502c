"""Typed access to the fields of a model's JSON files."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any, Dict, Mapping, Type

_LFS = b"version https://git-lfs"


class ModelError(ValueError):
    """The model cannot be run; the message names the faulty file, field, tensor or shard."""


def read_json(path: Path) -> Dict[str, Any]:
    """Reads a JSON object from a file of the model. Raises ModelError naming the file."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}{hint(path)}") from error
    except (ValueError, RecursionError) as error:  # also a file that is not UTF-8
        raise ModelError(f"{path} is not JSON: {error}{hint(path)}") from error
    if not isinstance(raw, dict):
        raise ModelError(f"{path} must hold an object, got {type(raw).__name__}")
    return raw


def is_present(path: Path) -> bool:
    """Whether a model has a file. A link to nothing is one that cannot be read: without it the
    model would be another one, with other tokens at its end or another template."""
    return path.exists() or path.is_symlink()


def hint(path: Path) -> str:
    """Why a file of a model may be unreadable, for the end of an error message; often empty."""
    if path.is_symlink() and not path.exists():
        return "; it is a link to a file that does not exist: download the model again"
    with contextlib.suppress(OSError), path.open("rb") as file:
        if file.read(len(_LFS)) == _LFS:
            return "; it is a pointer to the file in Git LFS: run `git lfs pull` in the folder"
    return ""


class Fields:
    """Typed access to a JSON object, with errors that name the file and the field."""

    _REQUIRED = object()

    def __init__(self, path: Path, raw: Mapping[str, Any]) -> None:
        self.path = path
        self._raw = raw

    def take(self, name: str, kind: Type[Any], default: Any = _REQUIRED) -> Any:
        """The value of a field, or `default` if it is absent or null. Raises ModelError for another
        type, and for an absent field without a default."""
        value = self._raw.get(name)
        if value is None:
            if default is self._REQUIRED:
                raise ModelError(f"{self.path}: {name} is missing")
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ModelError(f"{self.path}: {name} must be {kind.__name__}, got {value!r}")
        return value

    def positive(self, name: str, default: Any = _REQUIRED) -> Any:
        """An integer of at least 1, or the default."""
        value = self.take(name, int, default)
        if value is not default and value < 1:
            raise ModelError(f"{self.path}: {name} must be at least 1, got {value}")
        return value

    def number(self, name: str, default: float) -> float:
        """A finite number that is not negative."""
        value = default if self._raw.get(name) is None else self._raw[name]
        if not is_number(value) or value < 0:
            raise ModelError(f"{self.path}: {name} must be a number, at least 0, got {value!r}")
        return float(value)


def is_number(value: Any) -> bool:
    """Whether it is a finite number; booleans are not."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= sys.float_info.max
