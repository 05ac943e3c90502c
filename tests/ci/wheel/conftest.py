"""A wheel that is small and in order, and a way to write it with something wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ci.wheel.archive import Compressor, Member
from ci.wheel.build_info import BuildInfo
from ci.wheel.pack import repack

TAG = "cp38-abi3-manylinux1_x86_64"
TIME = 1_700_000_000
METADATA = b"""\
Metadata-Version: 2.2
Name: vllm
Version: 0
Requires-Python: >=3.8
Requires-Dist: torch>=2.1

# vllm

Version: a line of the description that must stay
"""
WHEEL = b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: false\nTag: none\n\n"


@pytest.fixture(scope="session")
def members() -> list[Member]:
    """The members of a canonical wheel, in no particular order."""
    info = "vllm-0.dist-info"
    build = BuildInfo("0" * 40, "12.1", False, "sha256:" + "1" * 64, "cu121")
    return [
        Member(f"{info}/METADATA", METADATA),
        Member("vllm/_C.abi3.so", b"\x7fELF" * 1000),
        Member(f"{info}/WHEEL", WHEEL),
        Member(f"{info}/build.json", build.render()),
        Member("vllm/__init__.py", b'"""A package."""\n'),
        Member("vllm/kernels/cu121/sm_80/norm.cubin", bytes(range(256)) * 16),
    ]


@pytest.fixture
def write(tmp_path: Path, members: list[Member]) -> Callable[..., Path]:
    """Writes the wheel under a version and tag, and returns its path."""

    def write(version: str = "0.5.4", tag: str = TAG) -> Path:
        name, data = repack(
            members, version=version, tag=tag, timestamp=TIME, compress=Compressor()
        )
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write
