"""Is each cubin and PTX for the arch that its folder says?"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from ci.audit.findings import Finding
from ci.wheel.reader import WheelFile

EM_CUDA = "EM_CUDA"
# ELF header of a cubin, as seen in those of NVRTC 11.8 to 13.0. Up to CUDA 12's older archs the
# OS/ABI is 51 with ABI version 7: e_flags has the arch in its low byte, and bit 11 for the suffix
# `a`. Since Blackwell, and for every arch from CUDA 13 on, it is 65 with version 8: the arch is in
# the second byte, and 9.0a cannot be told from 9.0 (13.0 writes the same flags for both).
OLD_OS_ABI, NEW_OS_ABI = 51, 65
OLD_SUFFIX_A = 1 << 11
# Line tables and variables for a debugger. (.debug_frame, for unwinding, is in every cubin.)
DEBUG_SECTIONS = re.compile(r"\.(?:rela?)?\.?(?:debug_(?!frame)|nv_debug)\w*")
PTX_TARGET = re.compile(rb"^\.target\s+(\w+)\s*$", re.MULTILINE)


def check(wheel: WheelFile, members: Mapping[str, bytes]) -> Iterator[Finding]:
    """Looks into every cubin and PTX of the wheel."""
    for name in wheel.native:
        path = PurePosixPath(name)
        if path.suffix == ".cubin":
            yield from _check_cubin(name, path.parent.name, members[name])
        elif path.suffix == ".ptx":
            yield from _check_ptx(name, path.parent.name, members[name])


def cubin_arch(data: bytes) -> str:
    """The arch in a cubin's header: ``sm_90a``, or ``sm_90`` where the header lacks the suffix.

    Raises ValueError if it is not a cubin.
    """
    try:
        header = ELFFile(io.BytesIO(data)).header
    except ELFError as error:
        raise ValueError(f"not ELF: {error}") from error
    if header["e_machine"] != EM_CUDA:
        raise ValueError(f"machine {header['e_machine']}")
    os_abi, flags = data[7], header["e_flags"]
    if os_abi == OLD_OS_ABI:
        return f"sm_{flags & 0xFF}{'a' if flags & OLD_SUFFIX_A else ''}"
    if os_abi == NEW_OS_ABI:
        return f"sm_{flags >> 8 & 0xFF}"
    raise ValueError(f"OS/ABI {os_abi}, which this audit does not know")


def _check_cubin(name: str, folder: str, data: bytes) -> Iterator[Finding]:
    try:
        found = cubin_arch(data)
    except ValueError as error:
        yield Finding(name, f"a cubin for {folder}", str(error))
        return
    expected = folder if data[7] == OLD_OS_ABI else folder.rstrip("af")
    if found != expected:
        yield Finding(name, f"an ELF header for {folder}", found)
    sections = ELFFile(io.BytesIO(data)).iter_sections()
    debug = [section.name for section in sections if DEBUG_SECTIONS.fullmatch(section.name)]
    if debug:
        yield Finding(name, "no debug data", ", ".join(debug))


def _check_ptx(name: str, folder: str, data: bytes) -> Iterator[Finding]:
    expected = folder.replace("compute_", "sm_")
    found = [target.decode() for target in PTX_TARGET.findall(data)]
    if found != [expected]:
        yield Finding(name, f".target {expected}", ", ".join(found) or "no .target")
