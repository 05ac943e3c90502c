"""Temporary files are removed at the end, after an error, and at the next start after a kill."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ci import scratch
from ci.scratch import write_atomically


def test_a_folder_is_removed_whole_or_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch.remove(tmp_path / "none")
    (tmp_path / "one" / "two").mkdir(parents=True)
    (tmp_path / "one" / "two" / "file").touch()
    scratch.remove(tmp_path / "one")
    assert list(tmp_path.iterdir()) == []

    def fail(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    monkeypatch.setattr(shutil, "rmtree", fail)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        scratch.remove(tmp_path)


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
    _kill_one_that_leaves_two(tmp_path)
    kept = {f"{scratch.PREFIX}{os.getpid()}-of-mine", f"{scratch.PREFIX}x-y", "wheel.whl"}
    for name in kept:
        (tmp_path / name).touch()
    write_atomically(tmp_path / "a.whl", b"")
    assert {path.name for path in tmp_path.iterdir()} == kept | {"a.whl"}


def _kill_one_that_leaves_two(parent: Path) -> None:
    """Ends when no process has the killed one's id: the kernel may have given it to a new one."""
    with subprocess.Popen([sys.executable, "-c", KILLED, str(parent)]) as killed:
        assert killed.wait() == -signal.SIGKILL
    assert len(list(parent.iterdir())) == 2
    while Path(f"/proc/{killed.pid}").exists():
        time.sleep(0.01)


def test_what_cannot_be_removed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _kill_one_that_leaves_two(tmp_path)

    def fail(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    monkeypatch.setattr(shutil, "rmtree", fail)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        scratch.sweep(tmp_path)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTEMPTY])
def test_what_belongs_to_another_user_or_is_being_removed_or_written_stays(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _kill_one_that_leaves_two(tmp_path)

    def fail(path: Path) -> None:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(shutil, "rmtree", fail)
    scratch.sweep(tmp_path)
    assert [path.is_dir() for path in tmp_path.iterdir()] == [True]


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
