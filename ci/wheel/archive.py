"""A zip writer whose output depends only on the members and the timestamp.

`zipfile` compresses with the interpreter's zlib, and zlib and zlib-ng differ, so members are
compressed by libdeflate, from a pinned wheel. Order, timestamp and modes are fixed.
Format: PKWARE's APPNOTE 6.3.3, without ZIP64, encryption, comments or extra fields.
"""

from __future__ import annotations

import hashlib
import stat
import struct
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from ci.errors import CiError

# A wheel is compressed once and downloaded often. Level 12, the best, saves another 0.3 % of a
# wheel but doubles the time for packing the matrix.
LEVEL = 10

# The range of zip timestamps, 1980-01-01 to 2107-12-31 23:59:58, in seconds since 1970.
FIRST_TIME, LAST_TIME = 315532800, 4354819198
# The maximum of sizes, offsets and counts without ZIP64; our wheels are far smaller.
MAX_SIZE, MAX_MEMBERS = 0xFFFFFFFE, 0xFFFE

STORED, DEFLATED = 0, 8
UTF8_NAME = 1 << 11
MADE_BY_UNIX, VERSION = 3 << 8, 20
# The mode of every member. No file in our wheels is executed directly, and whether a compiler, a
# umask or Debian's CMake marks a library executable must not change the bits.
MODE = 0o644


class ArchiveError(CiError):
    """The members do not fit in an archive that this writer supports."""


@dataclass(frozen=True)
class Member:
    """A file of an archive: its name, with `/` as separator, and its content."""

    name: str
    data: bytes


class Compressor:
    """Compresses each distinct content once: repacked wheels share nearly every member."""

    def __init__(self) -> None:
        self._done: dict[bytes, bytes] = {}

    def __call__(self, data: bytes) -> bytes:
        # Imported late: a source build reads wheels without having this module.
        import deflate

        key = hashlib.sha256(data).digest()
        if key not in self._done:
            self._done[key] = bytes(deflate.deflate_compress(data, LEVEL))
        return self._done[key]


def pack(members: Iterable[Member], timestamp: int, compress: Compressor) -> bytes:
    """The bytes of an archive with `members`, in the given order.

    timestamp: of every member, in seconds since 1970 (UTC), clamped to the range of zip.
    Raises ArchiveError for a duplicate name, and for anything that needs ZIP64.
    """
    date_time = _dos_date_time(timestamp)
    body, directory = bytearray(), bytearray()
    names: set[str] = set()
    for member in members:
        if member.name in names:
            raise ArchiveError(f"two members are called {member.name}")
        names.add(member.name)
        packed, method = compress(member.data), DEFLATED
        if len(packed) >= len(member.data):
            packed, method = member.data, STORED
        name = member.name.encode()
        common = struct.pack(
            "<HHHIIIIHH",
            VERSION,
            0 if member.name.isascii() else UTF8_NAME,
            method,
            date_time,
            zlib.crc32(member.data),
            len(packed),
            len(member.data),
            len(name),
            0,
        )
        attributes = (stat.S_IFREG | MODE) << 16
        directory += struct.pack("<4sH", b"PK\x01\x02", MADE_BY_UNIX | VERSION) + common
        directory += struct.pack("<HHHII", 0, 0, 0, attributes, len(body)) + name
        body += b"PK\x03\x04" + common + name + packed
    if len(body) + len(directory) > MAX_SIZE or len(names) > MAX_MEMBERS:
        raise ArchiveError(
            f"{len(names)} members, {len(body)} bytes: more than a zip holds without ZIP64"
        )
    end = struct.pack(
        "<4sHHHHIIH", b"PK\x05\x06", 0, 0, len(names), len(names), len(directory), len(body), 0
    )
    return bytes(body + directory + end)


def _dos_date_time(timestamp: int) -> int:
    moment = time.gmtime(min(max(timestamp, FIRST_TIME), LAST_TIME))
    date = (moment.tm_year - 1980) << 9 | moment.tm_mon << 5 | moment.tm_mday
    return date << 16 | moment.tm_hour << 11 | moment.tm_min << 5 | moment.tm_sec // 2
