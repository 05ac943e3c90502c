"""The sdist of a release: the backend's, with the release's version, reproducible."""

from __future__ import annotations

import io
import re
import struct
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

import deflate
from build import ProjectBuilder

from ci.builder.canonical import compiler_environment, source_date_epoch
from ci.builder.progress import run_quietly
from ci.git import Commit
from ci.matrix import Matrix
from ci.names import PROJECT
from ci.scratch import write_atomically
from ci.wheel.archive import LEVEL

MATRIX = "ci/matrix.toml"


def build(repo: Path, out: Path, released: Matrix, commit: Commit) -> Path:
    """Writes ``vllm-V.tar.gz`` to `out`. Wheels built from it have that version too."""
    environ = compiler_environment(repo / "build", commit)

    def runner(
        cmd: Sequence[str],
        cwd: Optional[str] = None,
        extra_environ: Optional[Mapping[str, str]] = None,
    ) -> None:
        run_quietly(cmd, Path(cwd or "."), {**environ, **(extra_environ or {})})

    with tempfile.TemporaryDirectory() as temporary:
        builder = ProjectBuilder(repo, python_executable=sys.executable, runner=runner)
        made = Path(builder.build("sdist", temporary))
        files = _read(made)
    files["PKG-INFO"] = re.sub(
        rb"(?m)^Version: .*$", b"Version: " + released.version.encode(), files["PKG-INFO"], count=1
    )
    files[MATRIX] = _set_version(files[MATRIX].decode(), released).encode()
    folder = f"{PROJECT}-{released.version}"
    path = out / f"{folder}.tar.gz"
    write_atomically(path, pack(folder, files, source_date_epoch(commit)))
    return path


def pack(folder: str, files: dict[str, bytes], timestamp: int) -> bytes:
    """A .tar.gz of `files` in `folder`; its bytes depend only on the arguments."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in sorted(files.items()):
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size, info.mtime = len(data), timestamp
            # nvrtcc.py is executed directly: files that begin with #! are made executable.
            info.mode = 0o755 if data.startswith(b"#!") else 0o644
            archive.addfile(info, io.BytesIO(data))
    text = raw.getvalue()
    header = struct.pack("<BBBBIBB", 0x1F, 0x8B, 8, 0, min(timestamp, 0xFFFFFFFF), 2, 255)
    trailer = struct.pack("<II", deflate.crc32(text), len(text) & 0xFFFFFFFF)
    return header + bytes(deflate.deflate_compress(text, LEVEL)) + trailer


def _read(path: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    with tarfile.open(path) as archive:
        for info in archive:
            file = archive.extractfile(info)
            if file is not None:
                files[info.name.partition("/")[2]] = file.read()
    return files


def _set_version(text: str, released: Matrix) -> str:
    """matrix.toml with the version and tag of the release; its comments are kept."""
    values = {"version": released.version, "tag": released.tag}
    for key, value in values.items():
        text = re.sub(rf'(?m)^{key} = ".*?"', f'{key} = "{value}"', text, count=1)
    return text
