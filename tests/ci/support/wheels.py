"""Commits and their wheels: small, but read and written by the code that makes the real ones."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from ci import versions
from ci.git import Commit
from ci.matrix import Matrix
from ci.names import LIBRARY, abi3_tag, release_tags
from ci.wheel import symbols
from ci.wheel.archive import Compressor, Member
from ci.wheel.build_info import BuildInfo
from ci.wheel.pack import repack
from ci.wheel.reader import WheelFile, read

INIT = b"""\
import json
from importlib.metadata import distribution

_own = distribution("vllm")
__version__ = _own.version
__commit__ = json.loads(_own.read_text("build.json"))["commit"]
"""
METADATA = b"""\
Metadata-Version: 2.1
Name: vllm
Version: 0
Requires-Python: >=3.8
"""
WHEEL = b"""\
Wheel-Version: 1.0
Generator: tests
Root-Is-Purelib: false
Tag: none
"""
CLOCK = datetime(2026, 11, 5, 12, tzinfo=timezone.utc)


def clock() -> datetime:
    """A clock that stands still, so that the same publication makes the same bytes."""
    return CLOCK


@dataclass
class Factory:
    """Makes commits, and the complete set of wheels of each, without compiling anything."""

    folder: Path
    matrix: Matrix
    requires: dict[str, str] = field(default_factory=dict)  # variant → a line of METADATA
    # Processor → host library and its debug symbols.
    libraries: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    _compress: Compressor = field(default_factory=Compressor)

    def of_default(self) -> Factory:
        """A factory of the default variant alone, for tests of very many publications."""
        return replace(self, matrix=replace(self.matrix, cudas=(self.matrix.default,)))

    def commit(self, number: int, text: str = "") -> Commit:
        sha = hashlib.sha1(f"{number}{text}".encode()).hexdigest()
        parent = hashlib.sha1(f"{number - 1}{text}".encode()).hexdigest()
        changed = ("README.md", *(["csrc/kernels/norm.cu"] if number % 2 else []))
        subject = f"Change number {number} {text}".rstrip()
        time = 1_780_000_000 + 60 * number
        return Commit(sha, number, time, False, subject, parent, changed)

    def wheels(self, commit: Commit, payload: bytes = b"") -> list[WheelFile]:
        """The wheels that a complete commit has; other `payload`, other content."""
        return [
            self.wheel(commit, cuda.variant, version, payload, abi3_tag(self.matrix, platform))
            for cuda in self.matrix.cudas
            for version in (
                versions.public(self.matrix.version, cuda.local),
                versions.development(self.matrix.version, commit.number, commit.sha, cuda.local),
            )
            for platform in self.matrix.platforms_of(cuda)
        ]

    def release(self, commit: Commit) -> list[WheelFile]:
        """The wheels that a complete release has."""
        return [
            self.wheel(commit, cuda.variant, version, tag=tag)
            for cuda in self.matrix.cudas
            for version in (versions.public(self.matrix.version, cuda.local),)
            for platform in self.matrix.platforms_of(cuda)
            for tag in release_tags(self.matrix, platform)
        ]

    def wheel(
        self, commit: Commit, variant: str, version: str, payload: bytes = b"", tag: str = ""
    ) -> WheelFile:
        """One wheel, by default for every Python on the main platform."""
        folder = self.folder / commit.sha / hashlib.sha256(payload).hexdigest()[:8]
        folder.mkdir(parents=True, exist_ok=True)
        build = BuildInfo(commit.sha, self.matrix.variant(variant).version, False, None, variant)
        metadata = METADATA + self.requires.get(variant, "").encode()
        info = "vllm-0.dist-info"
        members = [
            Member("vllm/__init__.py", INIT),
            Member("vllm/payload", f"{commit.sha}{variant}".encode() + payload),
            Member(f"{info}/METADATA", metadata),
            Member(f"{info}/WHEEL", WHEEL),
            Member(f"{info}/build.json", build.render()),
        ]
        tag = tag or abi3_tag(self.matrix, self.matrix.main)
        for processor, (library, debug) in self.libraries.items():
            if tag.endswith(processor):
                members.append(Member(LIBRARY, library))
                symbols.place(debug, str(symbols.build_id(library)), folder)
        name, data = repack(
            members, version=version, tag=tag, timestamp=commit.time, compress=self._compress
        )
        path = folder / name
        if not path.exists():
            # As a whole: another process may be making the same file.
            unfinished = path.with_suffix(f".{os.getpid()}")
            unfinished.write_bytes(data)
            unfinished.replace(path)
        return read(path)
