"""Reads wheels from untrusted sources: everything is verified before it is used."""

from __future__ import annotations

import hashlib
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from email.policy import compat32
from pathlib import Path
from typing import Optional

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag, parse_tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from ci.errors import CiError
from ci.wheel import build_info, record
from ci.wheel.archive import Member
from ci.wheel.build_info import BuildInfo

# Ten times more than our largest wheel: limits against zip bombs.
MAX_UNPACKED = 1 << 30
MAX_MEMBERS = 10_000
NATIVE_SUFFIXES = (".so", ".cubin", ".ptx")


class BadWheel(CiError):
    """A malformed, truncated, manipulated or hostile wheel."""

    def __init__(self, wheel: Path, member: str, *, expected: str, found: str) -> None:
        # What the file holds may be made to control a terminal.
        member, expected, found = map(_printable, (member, expected, found))
        place = f"{wheel.name}: {member}" if member else wheel.name
        super().__init__(
            f"{place}: expected {expected}, found {found}",
            means="the file was damaged or changed after the build, or built wrongly",
            do=f"delete {wheel}, and build or download it again",
        )
        self.wheel, self.member, self.expected, self.found = wheel, member, expected, found


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@dataclass(frozen=True)
class WheelFile:
    """A wheel's metadata, read from the file and verified against its content."""

    path: Path
    name: str  # "vllm"
    version: str  # "0.5.4+cu118"
    tags: tuple[str, ...]  # "cp38-abi3-manylinux1_x86_64"
    requires_python: Optional[str]
    sha256: str  # of the file, hex
    size: int  # of the file, bytes
    metadata: bytes  # METADATA, published by PEP 658
    build: BuildInfo
    native: dict[str, str]  # member → sha256 (hex) of each library, cubin and PTX


def read(path: Path) -> WheelFile:
    """Reads the wheel at `path`. Raises BadWheel naming the member, what was expected and found."""
    return open_wheel(path)[0]


def open_wheel(path: Path) -> tuple[WheelFile, list[Member]]:
    """Reads the wheel at `path`, and its members in the order of the archive, RECORD included.

    Raises BadWheel naming the member, what was expected and found.
    """
    try:
        name, version, _, tags = parse_wheel_filename(path.name)
    except InvalidWheelFilename as error:
        raise BadWheel(path, "", expected="the file name of a wheel", found=str(error)) from error
    members = _read_members(path)
    contents = {member.name: member.data for member in members}
    dist_info = f"{name.replace('-', '_')}-{version}.dist-info"
    _check_dist_info(path, contents, dist_info)
    _check_record(path, contents, f"{dist_info}/RECORD")
    _check_wheel(path, contents[f"{dist_info}/WHEEL"], f"{dist_info}/WHEEL", tags)
    requires_python = _check_metadata(
        path, contents[f"{dist_info}/METADATA"], name, version, dist_info
    )
    data = path.read_bytes()
    wheel = WheelFile(
        path=path,
        name=name,
        version=str(version),
        tags=tuple(sorted(map(str, tags))),
        requires_python=requires_python,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        metadata=contents[f"{dist_info}/METADATA"],
        build=_build_info(path, contents, f"{dist_info}/{build_info.NAME}"),
        native={
            name: hashlib.sha256(data).hexdigest()
            for name, data in sorted(contents.items())
            if name.endswith(NATIVE_SUFFIXES)
        },
    )
    return wheel, members


def _read_members(path: Path) -> list[Member]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            if len(infos) > MAX_MEMBERS:
                raise BadWheel(
                    path, "", expected=f"at most {MAX_MEMBERS} members", found=str(len(infos))
                )
            total = sum(info.file_size for info in infos)
            if total > MAX_UNPACKED:
                raise BadWheel(
                    path, "", expected=f"at most {MAX_UNPACKED} bytes unpacked", found=str(total)
                )
            seen: set[str] = set()
            for info in infos:
                _check_info(path, info, seen)
                seen.add(info.filename)
            return [_read_member(archive, info) for info in infos]
    except FileNotFoundError as error:
        raise BadWheel(path, "", expected="a file", found="nothing") from error
    # OSError too: with a wrong offset, zipfile seeks to an invalid position. ValueError: a name may
    # claim to be UTF-8. struct.error: an extra field may end early.
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        RuntimeError,
        OSError,
        ValueError,
    ) as error:
        found = f"a damaged one ({error})"
        raise BadWheel(path, "", expected="a complete zip archive", found=found) from error


def _check_info(path: Path, info: zipfile.ZipInfo, seen: set[str]) -> None:
    """Refuses what a wheel must not contain, before anything is unpacked."""
    name = info.orig_filename
    kind = stat.S_IFMT(info.external_attr >> 16)
    problems = {
        "a name once": "it twice" if name in seen else "",
        "a relative path of plain names": "" if _is_plain(name) else "another kind of path",
        "a regular file": "" if kind in (0, stat.S_IFREG) else f"file type {kind:o}",
        "no encryption": "an encrypted member" if info.flag_bits & 1 else "",
        "method stored or deflated": (
            "" if info.compress_type in (0, 8) else f"method {info.compress_type}"
        ),
    }
    for expected, found in problems.items():
        if found:
            raise BadWheel(path, repr(name), expected=expected, found=found)


def _is_plain(name: str) -> bool:
    parts = name.split("/")
    return (
        all(part not in ("", ".", "..") for part in parts)
        and not any(character in name for character in "\\:\0")
        and name.isprintable()
    )


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    # Reads at most the declared size, whose sum is limited: a member with a false size cannot
    # exhaust memory, and fails its CRC.
    with archive.open(info) as file:
        data = file.read(info.file_size + 1)
    return Member(info.filename, data)


def _check_dist_info(path: Path, contents: dict[str, bytes], expected: str) -> None:
    folders = {name.split("/")[0] for name in contents if "/" in name}
    found = sorted(folder for folder in folders if folder.endswith((".dist-info", ".data")))
    if found != [expected]:
        raise BadWheel(
            path, "", expected=f"the folder {expected}", found=", ".join(found) or "none"
        )
    for name in ("METADATA", "WHEEL", "RECORD", build_info.NAME):
        if f"{expected}/{name}" not in contents:
            raise BadWheel(path, f"{expected}/{name}", expected="the file", found="none")


def _check_record(path: Path, contents: dict[str, bytes], own_name: str) -> None:
    try:
        entries = record.parse(contents[own_name])
    except ValueError as error:
        raise BadWheel(path, own_name, expected="three columns", found=str(error)) from error
    listed: dict[str, record.Entry] = {}
    for entry in entries:
        if entry.name in listed:
            raise BadWheel(path, own_name, expected="a row per file", found=f"two of {entry.name}")
        listed[entry.name] = entry
    for name in sorted(contents.keys() ^ listed.keys()):
        expected, found = ("a row of RECORD", "none") if name in contents else ("the file", "none")
        raise BadWheel(path, name, expected=expected, found=found)
    for name, data in contents.items():
        row = (listed[name].sha256, listed[name].size)
        actual = ("", "") if name == own_name else (record.digest(data), str(len(data)))
        if row != actual:
            raise BadWheel(
                path,
                name,
                expected=f"{row[0]} and {row[1]} bytes, as in RECORD",
                found=f"{actual[0]} and {actual[1]} bytes",
            )


def _parse_headers(path: Path, data: bytes, member: str) -> Message:
    message = BytesParser(policy=compat32).parsebytes(data)
    if message.defects:
        raise BadWheel(path, member, expected="e-mail headers", found=repr(message.defects[0]))
    return message


def _header(path: Path, message: Message, name: str, member: str) -> str:
    """The only header of that name: tools differ in which of two they read."""
    values = [str(value) for value in message.get_all(name, [])]
    if len(values) != 1:
        found = "; ".join(values) or "none"
        raise BadWheel(path, member, expected=f"one {name}", found=found)
    return values[0]


def _check_wheel(path: Path, data: bytes, member: str, tags: frozenset[Tag]) -> None:
    message = _parse_headers(path, data, member)
    version = _header(path, message, "Wheel-Version", member)
    if version != "1.0":
        raise BadWheel(path, member, expected="Wheel-Version 1.0", found=version)
    written = [str(value) for value in message.get_all("Tag", [])]
    try:
        said = frozenset(tag for text in written for tag in parse_tag(text))
    except ValueError:
        said = frozenset()
    if said != tags or len(written) != len(set(written)):
        expected = ", ".join(sorted(map(str, tags)))
        raise BadWheel(
            path, member, expected=f"the file name's tags {expected}", found=", ".join(written)
        )


def _check_metadata(
    path: Path, data: bytes, name: str, version: Version, dist_info: str
) -> Optional[str]:
    """Compares METADATA with the file name; returns its Requires-Python."""
    member = f"{dist_info}/METADATA"
    message = _parse_headers(path, data, member)
    found_name = _header(path, message, "Name", member)
    found_version = _header(path, message, "Version", member)
    if canonicalize_name(found_name) != name:
        raise BadWheel(path, member, expected=f"Name: {name}", found=f"Name: {found_name}")
    if found_version != str(version):
        raise BadWheel(
            path, member, expected=f"Version: {version}", found=f"Version: {found_version}"
        )
    return _requires_python(path, message, member)


def _requires_python(path: Path, message: Message, member: str) -> Optional[str]:
    if "Requires-Python" not in message:
        return None
    found = _header(path, message, "Requires-Python", member)
    try:
        valid = found.isprintable() and SpecifierSet(found) is not None
    except InvalidSpecifier:
        valid = False
    if not valid:
        raise BadWheel(path, member, expected="a range as Requires-Python", found=repr(found))
    return found


def _build_info(path: Path, contents: dict[str, bytes], member: str) -> BuildInfo:
    try:
        return build_info.parse(contents[member])
    except ValueError as error:
        raise BadWheel(path, member, expected="a build record", found=str(error)) from error
