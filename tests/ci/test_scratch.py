"""Temporary files are removed at the end, after an error, and at the next start after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ci import scratch
from ci.scratch import write_atomically


def test_a_folder_is_gone_at_the_end(tmp_path: Path) -> None:
    with scratch.folder(parent=tmp_path / "parent") as folder:
        (folder / "file").touch()
        assert folder.parent == tmp_path / "parent"
    assert list((tmp_path / "parent").iterdir()) == []


KILLED = """\
import os, pathlib, signal, sys
from ci import scratch
parent = pathlib.Path(sys.argv[1])
with scratch.folder(parent=parent) as folder:
    (folder / "file").touch()
    (parent / f"{scratch.PREFIX}{os.getpid()}-a.whl").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    for name in (f"{scratch.PREFIX}{os.getpid()}-of-mine", f"{scratch.PREFIX}x-y", "wheel.whl"):
        (tmp_path / name).touch()
    kept = set(tmp_path.glob(f"*{os.getpid()}*")) | set(tmp_path.glob("*y")) | {tmp_path / "a.whl"}
    write_atomically(tmp_path / "a.whl", b"")
    assert set(tmp_path.iterdir()) == kept | {tmp_path / "wheel.whl"}


def test_atomic_writing_replaces_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_atomic_writing_that_fails_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("file", b"old")]
