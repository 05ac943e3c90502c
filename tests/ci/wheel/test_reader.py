"""The reader, on wheels that are damaged, changed or hostile, in each way."""

from __future__ import annotations

import hashlib
import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ci.wheel import reader
from ci.wheel.reader import BadWheel

INFO = "vllm-0.5.4.dist-info"
TAG = b"Tag: cp38-abi3-manylinux1_x86_64\n"


def rewrite(path: Path, change: Callable[[dict[str, bytes]], None], *, seal: bool = False) -> Path:
    """Writes the wheel again after `change` of its members; `seal` makes RECORD agree."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    if seal:
        from ci.wheel import record
        from ci.wheel.archive import Member

        others = [Member(name, data) for name, data in members.items() if name != f"{INFO}/RECORD"]
        members[f"{INFO}/RECORD"] = record.render(others, f"{INFO}/RECORD")
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def refuse(path: Path, *words: str) -> BadWheel:
    """The error of reading `path`, which has to name the wheel and all `words`."""
    with pytest.raises(BadWheel) as caught:
        reader.read(path)
    for word in (path.name, *words):
        assert word in str(caught.value)
    assert caught.value.expected
    assert caught.value.found
    assert str(caught.value).replace("\n", "").isprintable()
    return caught.value


def test_a_wheel_in_order(write: Callable[..., Path]) -> None:
    path = write()
    wheel = reader.read(path)
    assert (wheel.path, wheel.name, wheel.version) == (path, "vllm", "0.5.4")
    assert wheel.tags == ("cp38-abi3-manylinux1_x86_64",)
    assert wheel.requires_python == ">=3.8"
    assert wheel.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert wheel.size == path.stat().st_size
    assert wheel.metadata.startswith(b"Metadata-Version: 2.2\nName: vllm\nVersion: 0.5.4\n")
    assert (wheel.build.commit, wheel.build.variant) == ("0" * 40, "cu121")
    assert wheel.native == {
        "vllm/_C.abi3.so": hashlib.sha256(b"\x7fELF" * 1000).hexdigest(),
        "vllm/kernels/cu121/sm_80/norm.cubin": hashlib.sha256(bytes(range(256)) * 16).hexdigest(),
    }


def test_no_file(tmp_path: Path) -> None:
    refuse(tmp_path / "vllm-0.5.4-py3-none-any.whl", "expected a file, found nothing")


def test_a_name_that_is_not_a_wheels(tmp_path: Path) -> None:
    refuse(tmp_path / "vllm.whl", "the file name of a wheel")


@given(fraction=st.floats(0, 0.999))
@settings(suppress_health_check=list(HealthCheck), max_examples=40)
def test_truncated_anywhere(write: Callable[..., Path], fraction: float) -> None:
    path = write()
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])
    refuse(path)


@given(position=st.integers(0, 10**9), bit=st.integers(0, 7))
@settings(suppress_health_check=list(HealthCheck), max_examples=300)
def test_any_flipped_bit_is_noticed_or_changes_nothing(
    write: Callable[..., Path], position: int, bit: int
) -> None:
    """What a flip may change unnoticed is in the zip's own fields, such as a timestamp."""
    path = write()
    before = reader.open_wheel(path)[1]
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= 1 << bit
    path.write_bytes(data)
    try:
        _, after = reader.open_wheel(path)
    except BadWheel:
        return
    assert [(member.name, member.data) for member in after] == [
        (member.name, member.data) for member in before
    ]


def test_a_changed_member(write: Callable[..., Path]) -> None:
    path = rewrite(write(), lambda members: members.update({"vllm/__init__.py": b"import os\n"}))
    error = refuse(path, "vllm/__init__.py", "as in RECORD", "10 bytes")
    assert error.member == "vllm/__init__.py"


def test_a_member_that_record_does_not_list(write: Callable[..., Path]) -> None:
    path = rewrite(write(), lambda members: members.update({"vllm/extra.py": b""}))
    refuse(path, "vllm/extra.py", "expected a row of RECORD, found none")


def test_a_member_that_is_gone(write: Callable[..., Path]) -> None:
    path = rewrite(write(), lambda members: members.pop("vllm/_C.abi3.so"))
    refuse(path, "vllm/_C.abi3.so", "expected the file, found none")


@pytest.mark.parametrize("name", ["METADATA", "WHEEL", "RECORD", "build.json"])
def test_dist_info_without_a_part(write: Callable[..., Path], name: str) -> None:
    path = rewrite(write(), lambda members: members.pop(f"{INFO}/{name}"))
    refuse(path, f"{INFO}/{name}", "expected the file, found none")


def test_a_row_twice_in_record(write: Callable[..., Path]) -> None:
    def change(members: dict[str, bytes]) -> None:
        text = members[f"{INFO}/RECORD"]
        members[f"{INFO}/RECORD"] = text + text.splitlines(keepends=True)[0]

    refuse(rewrite(write(), change), "a row per file")


def test_a_renamed_wheel(write: Callable[..., Path]) -> None:
    path = write()
    path = path.rename(path.with_name(path.name.replace("0.5.4", "0.5.4+cu118")))
    refuse(path, "vllm-0.5.4+cu118.dist-info", "vllm-0.5.4.dist-info")


def test_a_changed_platform_tag(write: Callable[..., Path]) -> None:
    path = write()
    path = path.rename(path.with_name(path.name.replace("manylinux1", "linux")))
    refuse(path, "WHEEL", "cp38-abi3-linux_x86_64", "cp38-abi3-manylinux1_x86_64")


@pytest.mark.parametrize(
    ("member", "old", "new", "words"),
    [
        ("METADATA", b"Version: 0.5.4\n", b"Version: 0.5.5\n", ["Version: 0.5.4", "0.5.5"]),
        ("METADATA", b"Version: 0.5.4\n", b"Version: x\n", ["Version: 0.5.4", "Version: x"]),
        ("METADATA", b"Version: 0.5.4\n", b"Version: 00.5.4\n", ["found Version: 00.5.4"]),
        ("METADATA", b"Name: vllm\n", b"Name: wllm\n", ["Name: vllm", "Name: wllm"]),
        ("WHEEL", TAG, TAG + TAG, ["the file name's tags"]),
        ("METADATA", b">=3.8", b">=3.8\nno header", ["e-mail headers"]),
        ("WHEEL", b"Wheel-Version: 1.0", b"Wheel-Version: 2.0", ["Wheel-Version 1.0", "2.0"]),
        ("build.json", b"false", b'"no"', ["a build record", "dirty"]),
    ],
)
def test_dist_info_that_disagrees(
    write: Callable[..., Path], member: str, old: bytes, new: bytes, words: list[str]
) -> None:
    def change(members: dict[str, bytes]) -> None:
        assert old in members[f"{INFO}/{member}"]
        members[f"{INFO}/{member}"] = members[f"{INFO}/{member}"].replace(old, new)

    refuse(rewrite(write(), change, seal=True), f"{INFO}/{member}", *words)


@pytest.mark.parametrize("extra", ["vllm-0.5.5.dist-info/METADATA", "vllm-0.5.4.data/scripts/x"])
def test_a_second_dist_info_or_a_data_folder(write: Callable[..., Path], extra: str) -> None:
    path = rewrite(write(), lambda members: members.update({extra: b""}), seal=True)
    refuse(path, "expected the folder", extra.split("/")[0])


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../x", "vllm/../../x", "vllm//x", "./x", "C:/x", "vllm\\x", "vllm/a\nb", "x/"],
)
def test_a_name_that_leads_elsewhere(write: Callable[..., Path], name: str) -> None:
    path = rewrite(write(), lambda members: members.update({name: b""}), seal=True)
    refuse(path, repr(name), "a relative path of plain names")


def test_a_name_that_hides_behind_a_nul(write: Callable[..., Path]) -> None:
    path = rewrite(write(), lambda members: members.update({"vllm/a_b": b""}), seal=True)
    path.write_bytes(path.read_bytes().replace(b"vllm/a_b", b"vllm/a\0b"))
    refuse(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_twice(write: Callable[..., Path]) -> None:
    path = write()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("vllm/__init__.py", b"another")
    refuse(path, "vllm/__init__.py", "expected a name once, found it twice")


def test_a_symbolic_link(write: Callable[..., Path]) -> None:
    path = write()
    info = zipfile.ZipInfo("vllm/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, "/etc/passwd")
    refuse(path, "vllm/link", "expected a regular file")


def test_another_compression(write: Callable[..., Path]) -> None:
    path = write()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("vllm/x", b"x" * 100, compress_type=zipfile.ZIP_LZMA)
    refuse(path, "vllm/x", "method stored or deflated")


def test_an_encrypted_member(write: Callable[..., Path]) -> None:
    path = write()
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flags of the first entry of the directory
    path.write_bytes(data)
    refuse(path, "no encryption")


def test_a_zip_bomb_by_its_declared_size(write: Callable[..., Path]) -> None:
    path = write()
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = (0xF0000000).to_bytes(4, "little")
    path.write_bytes(data)
    refuse(path, "bytes unpacked")


def test_a_zip_bomb_with_a_false_size(write: Callable[..., Path]) -> None:
    path = write()
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("vllm/bomb", bytes(200 << 20))
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02") + 24
    data[at : at + 4] = (10).to_bytes(4, "little")
    path.write_bytes(data)
    import tracemalloc

    tracemalloc.start()
    refuse(path, "damaged")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20


def test_too_many_members(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_MEMBERS", 5)
    refuse(write(), "at most 5 members", "7")
    monkeypatch.setattr(reader, "MAX_MEMBERS", 7)
    assert reader.read(write())


def test_as_many_bytes_as_allowed(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write()
    with zipfile.ZipFile(path) as archive:
        size = sum(info.file_size for info in archive.infolist())
    monkeypatch.setattr(reader, "MAX_UNPACKED", size)
    assert reader.read(path)
    monkeypatch.setattr(reader, "MAX_UNPACKED", size - 1)
    refuse(path, f"at most {size - 1} bytes unpacked", f"found {size}")


@pytest.mark.parametrize(
    "error",
    [zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, OSError, ValueError],
)
def test_whatever_zipfile_raises_is_a_damaged_archive(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """Its documentation names only the first."""

    def fail(self: zipfile.ZipFile) -> None:
        raise error("of this member")

    path = write()
    monkeypatch.setattr(zipfile.ZipFile, "infolist", fail)
    refuse(path, "a damaged one (of this member)")


def test_a_file_beside_the_folders_may_have_any_name(write: Callable[..., Path]) -> None:
    path = rewrite(write(), lambda members: members.update({"a.data": b""}), seal=True)
    assert reader.read(path)


def test_the_range_of_pythons_may_be_missing(write: Callable[..., Path]) -> None:
    def change(members: dict[str, bytes]) -> None:
        name = f"{INFO}/METADATA"
        members[name] = members[name].replace(b"Requires-Python: >=3.8\n", b"")

    assert reader.read(rewrite(write(), change, seal=True)).requires_python is None


def test_the_tags_of_a_name_are_told_in_order(write: Callable[..., Path]) -> None:
    path = write("0.5.4", "py2.py3-none-any")
    assert reader.read(path).tags == ("py2-none-any", "py3-none-any")


def test_a_file_that_is_not_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "vllm-0.5.4-py3-none-any.whl"
    path.write_bytes(io.BytesIO(b"<html>404</html>").read())
    refuse(path, "a complete zip archive")


@pytest.mark.parametrize(
    ("member", "old", "new"),
    [
        ("build.json", b"{", b"[" * 200_000),
        ("WHEEL", b"Tag: cp38", b"Tag: \xe9cp38"),
        ("WHEEL", b"Tag: cp38", b"Tag: cp38-abi3"),
        ("WHEEL", b"Wheel-Version: 1.0", b"Wheel-Version: 1.0\nWheel-Version: 9"),
        ("METADATA", b"Version: 0.5.4", b"Version: " + b"9" * 5000),
        ("METADATA", b"Version: 0.5.4", b"Version: 0.5.4\nVersion: 9"),
        ("METADATA", b"Name: vllm", b"Name: vllm\nName: evil"),
        ("METADATA", b">=3.8", b">=3.8\xe9"),
        ("METADATA", b">=3.8", b"whatever"),
        ("METADATA", b">=3.8", b">=3.8\n ,<4"),
        ("METADATA", b">=3.8", b">=3.8\nRequires-Python: >=2"),
    ],
)
def test_a_member_that_cannot_be_read(
    write: Callable[..., Path], member: str, old: bytes, new: bytes
) -> None:
    def change(members: dict[str, bytes]) -> None:
        name = f"{INFO}/{member}"
        assert old in members[name]
        members[name] = members[name].replace(old, new, 1)

    refuse(rewrite(write(), change, seal=True), f"{INFO}/{member}")


@pytest.mark.parametrize("row", [b"x" * 200_000 + b",,\n", b"a\rb,,\n", b"\xff,,\n"])
def test_a_record_that_cannot_be_read(write: Callable[..., Path], row: bytes) -> None:
    def change(members: dict[str, bytes]) -> None:
        members[f"{INFO}/RECORD"] += row

    refuse(rewrite(write(), change), "RECORD")


def test_a_name_that_claims_to_be_utf_8(write: Callable[..., Path]) -> None:
    path = write()
    data = bytearray(path.read_bytes())
    entry = data.rfind(b"PK\x01\x02")  # the last of the directory
    data[entry + 9] |= 1 << 3  # bit 11 of the flags
    data[entry + 46] = 0xFF
    path.write_bytes(data)
    refuse(path, "a complete zip archive")


def test_a_message_does_not_control_the_terminal(write: Callable[..., Path]) -> None:
    def change(members: dict[str, bytes]) -> None:
        members[f"{INFO}/RECORD"] += b"\x1b[2J,,\n"

    error = refuse(rewrite(write(), change), "\\x1b[2J")
    assert "'\\x1b" not in str(error)
