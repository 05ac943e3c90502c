"""Repacks a wheel: the same files with another version and other tags (design D5)."""

from __future__ import annotations

import re
from dataclasses import replace

from ci import names
from ci.wheel import archive, record
from ci.wheel.archive import Compressor, Member


def repack(
    members: list[Member],
    *,
    version: str,
    tag: str,
    timestamp: int,
    compress: Compressor,
) -> tuple[str, bytes]:
    """The file name and bytes of a wheel with the `members` of another.

    members: from `ci.wheel.reader.open_wheel`.
    version, tag: of the new wheel, in its file name, dist-info folder, METADATA and WHEEL; one tag,
    such as ``cp38-abi3-manylinux1_x86_64``.
    timestamp: of every member, in seconds since 1970.
    """
    dist_info = f"{names.PROJECT}-{version}.dist-info"
    packed = [
        _rename(member, dist_info, version, tag)
        for member in members
        if not member.name.endswith(".dist-info/RECORD")
    ]
    # dist-info comes last, as PEP 427 recommends, so that METADATA is cheap to change.
    packed.sort(key=lambda member: (member.name.startswith(f"{dist_info}/"), member.name))
    own_name = f"{dist_info}/RECORD"
    packed.append(Member(own_name, record.render(packed, own_name)))
    name = names.wheel_name(version, *tag.split("-"))
    return name, archive.pack(packed, timestamp, compress)


def _rename(member: Member, dist_info: str, version: str, tag: str) -> Member:
    folder, _, name = member.name.partition("/")
    if not folder.endswith(".dist-info"):
        return member
    data = member.data
    if name == "METADATA":
        data = _set_header(data, "Version", version)
    elif name == "WHEEL":
        data = _set_header(data, "Tag", tag)
    return replace(member, name=f"{dist_info}/{name}", data=data)


def _set_header(data: bytes, header: str, value: str) -> bytes:
    """`data` with the value of its only `header` line replaced; the body is kept."""
    headers, blank, body = data.partition(b"\n\n")
    line = f"{header}: {value}".encode()
    pattern = re.compile(rb"^" + header.encode() + rb": .*$", re.MULTILINE)
    headers, count = pattern.subn(lambda _: line, headers)
    if count != 1:
        raise archive.ArchiveError(f"expected one {header} line to change, found {count}")
    return headers + blank + body
