"""Names of wheels and their keys in the bucket: the design's contracts as functions."""

from __future__ import annotations

from typing import Optional
from urllib.parse import quote

from ci.matrix import Cuda, Matrix, Platform

PROJECT = "vllm"
NIGHTLY = "nightly"
LIBRARY = "vllm/_C.abi3.so"  # in a wheel
# `$BASE` of the documents: the bucket's public URL. `ci serve` substitutes its own.
BASE = "https://vllm-wheels.s3.us-west-2.amazonaws.com"
SOURCE = "https://github.com/vllm-project/vllm"


def wheel_name(version: str, python: str, abi: str, platform: str) -> str:
    """The file name of a wheel; `version` is already normalized and may have a local part."""
    return f"{PROJECT}-{version}-{python}-{abi}-{platform}.whl"


def abi3_wheel_name(matrix: Matrix, version: str, platform: Optional[Platform] = None) -> str:
    """``vllm-V-cp38-abi3-manylinux1_x86_64.whl``: the wheel for every Python.

    platform: by default the main one.
    """
    return wheel_name(version, *abi3_tag(matrix, platform or matrix.main).split("-"))


def abi3_tag(matrix: Matrix, platform: Platform) -> str:
    """``cp38-abi3-manylinux1_x86_64``"""
    return f"{python_tag(matrix.abi3)}-abi3-{platform.tag}"


def release_tags(matrix: Matrix, platform: Platform) -> list[str]:
    """The tags of a release's wheels of one variant: abi3 first, then one for each Python."""
    pythons = map(python_tag, matrix.pythons if platform.per_python else ())
    return [abi3_tag(matrix, platform), *(f"{tag}-{tag}-{platform.tag}" for tag in pythons)]


def python_tag(version: str) -> str:
    """``cp38`` for ``3.8``."""
    return "cp" + version.replace(".", "")


def commit_key(commit: str, name: str) -> str:
    return f"{commit}/{name}"


def nightly_key(name: str) -> str:
    return f"{NIGHTLY}/{name}"


def release_key(version: str, name: str) -> str:
    return f"releases/download/v{version}/{name}"


def index_keys(cuda: Cuda, commit: str) -> dict[str, str]:
    """Name of the index → folder, for each simple index of one variant."""
    return {
        "releases": f"whl/{cuda.variant}/{PROJECT}/",
        "nightlies": f"whl/nightly/{cuda.variant}/{PROJECT}/",
        "nightly": f"nightly/{cuda.variant}/{PROJECT}/",
        "commit": f"{commit}/{cuda.variant}/{PROJECT}/",
    }


def url(base: str, key: str) -> str:
    """The URL of `key` for a link, with `+` as `%2B`: S3 reads a raw `+` as a space."""
    return f"{base.rstrip('/')}/{quote(key, safe='/-._~')}"


def documented_url(base: str, key: str) -> str:
    """The URL of `key` as people type it: pip sends a raw `+`, which the store accepts."""
    return f"{base.rstrip('/')}/{key}"
