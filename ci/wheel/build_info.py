"""build.json in a wheel's dist-info: its commit, its variant and its native digest.

Source builds write it on Python 3.8, too, where `ci.index.fields`, which parses the records of a
bucket, cannot be imported; and wheels that are published already have no "schema" in theirs.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from typing import Optional

NAME = "build.json"


@dataclass(frozen=True)
class BuildInfo:
    """The origin of a wheel; None for what its builder did not know."""

    commit: Optional[str]  # 40 hex digits
    cuda: Optional[str]  # "12.1"
    dirty: bool  # built from a tree that differed from the commit
    native_digest: Optional[str]  # "sha256:…" of all inputs of the native code
    variant: str  # "cu121", "cpu" or "empty"

    def render(self) -> bytes:
        return (json.dumps(asdict(self), sort_keys=True, indent=1) + "\n").encode()


def parse(data: bytes) -> BuildInfo:
    """Parses a record. Raises ValueError for an invalid one."""
    try:
        value = json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    names = sorted(field.name for field in fields(BuildInfo))
    if not isinstance(value, dict) or sorted(value) != names:
        raise ValueError(f"expected an object with the keys {', '.join(names)}")
    patterns = {
        "commit": r"[0-9a-f]{40}",
        "cuda": r"\d+\.\d+",
        "native_digest": r"sha256:[0-9a-f]{64}",
        "variant": r"cu\d+|cpu|empty",
    }
    for name, pattern in patterns.items():
        text = value[name]
        if text is None and name != "variant":
            continue
        if not isinstance(text, str) or not re.fullmatch(pattern, text):
            raise ValueError(f"{name} is {text!r}, expected {pattern}")
    if not isinstance(value["dirty"], bool):
        raise ValueError(f"dirty is {value['dirty']!r}, expected true or false")
    return BuildInfo(**value)
