"""Malicious wheels are refused, and nothing is stored."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ci.publish import PublishError, publish
from ci.store import FolderStore, StoreError
from ci.wheel.reader import BadWheel, read
from tests.ci.support.buckets import contents
from tests.ci.support.wheels import Factory

Spoil = Callable[[bytes], bytes]


def rewritten(data: bytes, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> bytes:
    """The archive again, each member as `change` makes it (None: left out)."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            member = change(name, old.read(name))
            if member is not None:
                new.writestr(*member)
    return out.getvalue()


def with_member(name: str, content: bytes = b"evil") -> Spoil:
    def spoil(data: bytes) -> bytes:
        out = io.BytesIO(data)
        with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, content)
        return out.getvalue()

    return spoil


def replacing(suffix: str, old: bytes, new: bytes) -> Spoil:
    def change(name: str, data: bytes) -> tuple[str, bytes]:
        return name, data.replace(old, new) if name.endswith(suffix) else data

    return lambda data: rewritten(data, change)


SPOILED: dict[str, Spoil] = {
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "not a zip": lambda data: b"<html>502 Bad Gateway</html>",
    "one bit flipped": lambda data: data[:60] + bytes([data[60] ^ 1]) + data[61:],
    "zip bomb": with_member("vllm/bomb", bytes(1 << 26)),
    "absolute member": with_member("/etc/cron.d/evil"),
    "escaping member": with_member("../../evil.py"),
    "member on a drive": with_member("C:\\evil.py"),
    "member not in RECORD": with_member("vllm/evil.py"),
    "RECORD that lies": replacing("__init__.py", b"import json", b"import evil"),
    "METADATA of another project": replacing("METADATA", b"Name: vllm", b"Name: evil"),
    "METADATA of another version": replacing("METADATA", b"Version: 0", b"Version: 9"),
    "another commit": replacing("build.json", b'"commit": "', b'"commit": "0'),
    "no RECORD": lambda data: rewritten(
        data, lambda name, body: None if name.endswith("RECORD") else (name, body)
    ),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_hostile_wheel_is_refused(factory: Factory, tmp_path: Path, kind: str) -> None:
    store = FolderStore(tmp_path / "bucket", durable=False)
    commit = factory.commit(1)
    first, *others = factory.wheels(commit)
    path = tmp_path / first.path.name
    path.write_bytes(SPOILED[kind](first.path.read_bytes()))
    with pytest.raises(BadWheel, match=r"expected .* found"):
        publish(store, [read(path), *others], commit, factory.matrix)
    assert contents(store) == {}


@pytest.mark.parametrize(
    "name",
    [
        "../vllm-0.5.4-cp38-abi3-manylinux1_x86_64.whl",
        "evil-0.5.4-cp38-abi3-manylinux1_x86_64.whl",
        "vllm-0.5.4-cp38-abi3-manylinux1_x86_64.whl\n",
        "vllm-0.5.4%2f..%2fx-cp38-abi3-manylinux1_x86_64.whl",
        "<script>-0.5.4-cp38-abi3-manylinux1_x86_64.whl",
        "vⅼⅼm-0.5.4-cp38-abi3-manylinux1_x86_64.whl",
        "vllm-0.5.4+cu118-cp38-abi3-manylinux1_x86_64.whl.exe",
    ],
)
def test_a_hostile_name_is_refused(factory: Factory, tmp_path: Path, name: str) -> None:
    store = FolderStore(tmp_path / "bucket", durable=False)
    commit = factory.commit(1)
    first, *others = factory.wheels(commit)
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / name
    path.write_bytes(first.path.read_bytes())
    with pytest.raises((BadWheel, PublishError)):
        publish(store, [read(path), *others], commit, factory.matrix)
    assert not [key for key in contents(store) if key.endswith((".whl", "manifest.json"))]


def test_a_wheel_that_changes_after_it_was_read_is_not_published(
    factory: Factory, tmp_path: Path
) -> None:
    store = FolderStore(tmp_path / "bucket", durable=False)
    commit = factory.commit(1)
    first, *others = factory.wheels(commit)
    path = tmp_path / first.path.name
    path.write_bytes(first.path.read_bytes())
    wheel = read(path)
    path.write_bytes(first.path.read_bytes()[:-1] + b"!")
    with pytest.raises(StoreError, match="have sha256"):
        publish(store, [wheel, *others], commit, factory.matrix)
    assert not [key for key in contents(store) if key.endswith("manifest.json")]
