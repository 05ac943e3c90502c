"""What only a folder can get wrong: links, rights, unfinished files, the death of the writer."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ci.store import (
    AccessDenied,
    BadDigest,
    BadKey,
    Body,
    FolderStore,
    NotFound,
    StoreUnavailable,
)
from ci.store import folder as folder_module

A = Body.of(b"a")


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "bucket")


def test_what_is_served_holds_objects_and_nothing_else(store: FolderStore) -> None:
    etag = store.create("a/x", A)
    store.replace("a/x", Body.of(b"b"), etag)
    store.copy("a/x", "y", None)
    found = sorted(p.relative_to(store.root).as_posix() for p in store.root.rglob("*"))
    assert found == ["a", "a/x", "y"]
    assert [path.name for path in store.work.path.iterdir()] == ["lock"]
    assert store.work.path.parent == store.root.parent


def test_anybody_may_read_what_was_stored(store: FolderStore) -> None:
    store.create("a/x", A)
    assert (store.root / "a/x").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o755), (0o002, 0o775)])
def test_anybody_may_read_its_folders_whatever_the_umask(
    tmp_path: Path, umask: int, mode: int
) -> None:
    store = FolderStore(tmp_path / "new" / "bucket")
    before = os.umask(umask)
    try:
        store.create("a/b/x", A)
    finally:
        os.umask(before)
    folders = (store.root, store.root / "a", store.root / "a/b")
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [mode] * 3


def test_a_new_folder_is_as_durable_as_its_file(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    opened = Path("/proc/self/fd")
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append((opened / str(fd)).readlink()))
    store.create("a/b/x", A)
    # The file, then each folder that got an entry. A ledger elsewhere may list the file.
    above = (store.root.parent, store.root, store.root / "a", store.root / "a/b")
    assert tuple(synced[1:]) == above


def test_what_a_killed_writer_left_is_removed_after_a_day(store: FolderStore) -> None:
    store.create("x", A)
    old, new = store.work.path / "tmpold", store.work.path / "tmpnew"
    for path in (old, new):
        path.write_bytes(b"half a wheel")
    day_ago = time.time() - 24 * 3600 - 1
    for path in (old, store.work.path / "lock"):
        os.utime(path, (day_ago, day_ago))
    FolderStore(store.root).create("y", A)
    assert sorted(path.name for path in store.work.path.iterdir()) == ["lock", "tmpnew"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_symbolic_link_is_not_followed(store: FolderStore, tmp_path: Path, kind: str) -> None:
    store.create("real/x", A)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/x").write_bytes(b"secret")
    target = "secrets/x" if kind == "file" else "secrets"
    (store.root / "link").symlink_to(tmp_path / target)
    key = "link" if kind == "file" else "link/x"
    with pytest.raises((BadKey, NotFound)):
        store.get(key)
    with pytest.raises((BadKey, NotFound)):
        store.head(key)
    with pytest.raises((BadKey, NotFound)):
        store.copy(key, "copied", None)
    assert [entry.key for entry in store.list("")] == ["real/x"]
    assert list(store.folders()) == ["real"]


def test_nothing_is_written_through_a_symbolic_link(store: FolderStore, tmp_path: Path) -> None:
    store.create("real/x", A)
    outside = tmp_path / "outside"
    outside.mkdir()
    (store.root / "link").symlink_to(outside)
    with pytest.raises(BadKey, match="a link or a file is in the way"):
        store.create("link/x", A)
    with pytest.raises(BadKey):
        store.copy("real/x", "link/x", None)
    with pytest.raises(BadKey):
        store.delete("link/x")
    assert list(outside.iterdir()) == []


def test_a_file_in_place_of_a_folder_is_reported(store: FolderStore) -> None:
    store.create("x", A)
    with pytest.raises(BadKey, match="a link or a file is in the way"):
        store.create("x/y", A)


def test_a_bucket_behind_a_link_is_the_folder_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "bucket").symlink_to(tmp_path / "disk/real")
    FolderStore(tmp_path / "bucket").create("x", A)
    assert (tmp_path / "disk/real/x").read_bytes() == b"a"
    assert (tmp_path / "disk/.real.work/lock").exists()


def test_a_bucket_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """As a user who is not root: root may write everywhere."""
    parent = tmp_path / "parent"
    parent.mkdir()
    store = FolderStore(parent / "bucket")
    store.create("x", A)
    for path in (parent, store.root, store.work.path):
        path.chmod(0o555)
    own = os.geteuid()
    if own == 0:
        for path in parent.parents:
            if path.stat().st_uid == 0 and path.is_relative_to(tmp_path.parents[1]):
                path.chmod(0o755)
        os.seteuid(65534)
    try:
        with pytest.raises(AccessDenied, match=r"cannot .* Permission denied") as caught:
            store.create("y", A)
    finally:
        os.seteuid(own)
        for path in (parent, store.root, store.work.path):
            path.chmod(0o755)
    assert "choose another --bucket" in str(caught.value)


def test_a_bucket_that_is_a_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "bucket").write_text("")
    store = FolderStore(tmp_path / "bucket")
    with pytest.raises(BadKey, match="a link or a file is in the way"):
        store.create("x", A)


def test_a_place_where_no_folder_can_be_made_says_so() -> None:
    store = FolderStore(Path("/proc/bucket"))
    with pytest.raises(StoreUnavailable, match="cannot"):
        store.create("x", A)


def test_a_failed_write_leaves_no_unfinished_file(store: FolderStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.create("x", Body(tmp_path / "not there", "0" * 64, 1))
    with pytest.raises(BadDigest):  # changed since it was hashed
        store.create("x", Body(b"b", A.sha256, 1))
    store.create("x", A)
    assert [path.name for path in store.work.path.iterdir()] == ["lock"]


@pytest.mark.parametrize("durable", [True, False])
def test_a_power_cut_loses_nothing_that_was_confirmed(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    """First the content is on the disk, then it has a name, then the folder is on the disk too."""
    store.create("a/z", A)  # makes the folders, of which another test says that they are kept
    events = []

    def watch(function: str, event: str) -> None:
        real = getattr(os, function)

        def watched(*args: object, **kwargs: object) -> object:
            is_folder = function == "fsync" and stat.S_ISDIR(os.fstat(args[0]).st_mode)
            events.append("folder kept" if is_folder else event)
            return real(*args, **kwargs)

        monkeypatch.setattr(os, function, watched)

    for function, event in (("fsync", "content kept"), ("link", "named"), ("replace", "named")):
        watch(function, event)
    kept = FolderStore(store.root, durable=durable)
    writing = ["content kept", "named", "folder kept"] if durable else ["named"]
    etag = kept.create("a/x", A)
    kept.replace("a/x", Body.of(b"b"), etag)
    kept.copy("a/x", "y", None)
    assert events == 3 * writing
    events.clear()
    kept.delete("y")
    assert events == (["folder kept"] if durable else [])


def test_reading_makes_no_folder(store: FolderStore) -> None:
    store.create("x", A)
    with pytest.raises(NotFound):
        store.get("a/b")
    store.delete("a/b")
    assert [path.name for path in store.root.iterdir()] == ["x"]


def test_folders_go_with_their_last_object_and_the_bucket_stays(store: FolderStore) -> None:
    for key in ("a/b/x", "a/y"):
        store.create(key, A)
    store.delete("a/b/x")
    assert [path.name for path in (store.root / "a").iterdir()] == ["y"]
    store.delete("a/y")
    assert list(store.root.iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from ci.store import Body, FolderStore

where = sys.argv[1]
real = getattr(os, where)
def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(os, where, die)
store = FolderStore(Path(sys.argv[2]))
if where == "replace":
    store.replace("x", Body.of(b"new"), store.head("x").etag)
else:
    store.create("y", Body.of(b"new"))
"""


@pytest.mark.parametrize("where", ["fchmod", "fsync", "link", "replace"])
def test_a_writer_that_is_killed_leaves_the_bucket_as_it_was(
    store: FolderStore, where: str
) -> None:
    store.create("x", A)
    ended = subprocess.run([sys.executable, "-c", KILLED, where, str(store.root)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert [entry.key for entry in store.list("")] == ["x"]
    assert store.get("x").body == b"a"
    store.create("y", A)  # the lock went with its holder
    assert store.get("y").body == b"a"


def test_versions_written_within_one_tick_of_the_clock_are_told_apart(store: FolderStore) -> None:
    first = store.create("x", Body.of(b"1"))
    before = (store.root / "x").stat()
    store.replace("x", Body.of(b"2"), first)
    os.utime(store.root / "x", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.head("x").etag != first


def test_the_digest_of_a_large_file_is_computed_once(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create("x", Body.of(b"0" * (1 << 20)))
    etag = store.head("x").etag

    def not_again(stream: object) -> str:
        raise AssertionError("hashed again")

    monkeypatch.setattr(folder_module, "sha256_of", not_again)
    assert store.head("x").etag == etag
