"""The installed build of vllm, from its package metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from typing import Optional


@dataclass(frozen=True)
class Build:
    """Contents of ``build.json`` in dist-info, written by the build backend, and the version.

    commit: 40 hex digits, or None if it was not built from a commit.
    cuda: the CUDA that the GPU code was compiled with, such as "12.1"; None without GPU code.
    dirty: whether the source tree had changes that are not in `commit`.
    native_digest: a hash of the sources and flags of the compiled code; None without it.
    variant: "cu121", "cu118", "cpu" or "empty".
    """

    version: str
    commit: Optional[str]
    cuda: Optional[str]
    dirty: bool
    native_digest: Optional[str]
    variant: Optional[str]


# For a source tree that was never installed. No release has this version.
NOT_INSTALLED = Build("0+unknown", None, None, False, None, None)


@lru_cache(maxsize=None)
def build() -> Build:
    """The installed build; `NOT_INSTALLED` for a source tree on ``sys.path``."""
    try:
        distribution = metadata.distribution("vllm")
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED
    info = json.loads(distribution.read_text("build.json") or "{}")
    return Build(
        version=distribution.version,
        commit=info.get("commit"),
        cuda=info.get("cuda"),
        dirty=info.get("dirty", False),
        native_digest=info.get("native_digest"),
        variant=info.get("variant"),
    )


__version__ = build().version
__commit__ = build().commit
