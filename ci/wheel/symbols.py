"""Debug symbols of a host library: a separate file, found by the library's build-id.

Its path is that of debuginfod clients such as gdb: ``buildid/HEX/debuginfo`` below the commit's
folder. cmake/link_twice.py creates it by linking the library again with symbols.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection

from ci.errors import CiError
from ci.names import LIBRARY
from ci.scratch import write_atomically

BUILT = "_C.debug"  # beside the library in a build folder
FOLDER, NAME = "buildid", "debuginfo"
NEEDED = (".symtab", ".debug_info", ".debug_line")


class BadSymbols(CiError):
    """Debug symbols that do not match their library."""


def name_of(build_id: str) -> str:
    """The path of a library's symbols, relative to the folder of its wheel."""
    return f"{FOLDER}/{build_id}/{NAME}"


def place(debug: bytes, build_id: str, folder: Path) -> None:
    """Writes debug symbols to their path below `folder`."""
    write_atomically(folder / name_of(build_id), debug)


def build_id(library: bytes) -> Optional[str]:
    """The build-id of an ELF file, in hex; None if it has none, or is not an ELF file."""
    try:
        section = _elf(library).get_section_by_name(".note.gnu.build-id")
    except ELFError:
        return None
    for note in section.iter_notes() if isinstance(section, NoteSection) else ():
        if (note["n_name"], note["n_type"]) == ("GNU", "NT_GNU_BUILD_ID"):
            return str(note["n_desc"])
    return None


def build_id_of(wheel: Path) -> Optional[str]:
    """The build-id of the host library in a wheel; None if it has none."""
    with zipfile.ZipFile(wheel) as archive:
        return build_id(archive.read(LIBRARY)) if LIBRARY in archive.namelist() else None


def check(debug: bytes, library: bytes) -> None:
    """Raises BadSymbols unless `debug` has the symbols of `library`."""
    for expected, found in problems(debug, library):
        raise BadSymbols(
            f"debug symbols: expected {expected}, found {found}",
            means="a debugger would not load them, or would show wrong lines",
            do="build again: python -m ci build",
        )


def problems(debug: bytes, library: bytes) -> Iterator[tuple[str, str]]:
    """Yields (expected, found) for everything wrong with the symbols of a library."""
    ours, theirs = build_id(library), build_id(debug)
    if ours != theirs or theirs is None:
        yield f"build-id {ours}", f"build-id {theirs}"
        return
    one, other = _elf(library), _elf(debug)
    missing = [name for name in NEEDED if other.get_section_by_name(name) is None]
    if missing:
        yield "symbols and lines", f"no {', '.join(missing)}"
        return
    for name, loaded in _loaded(one).items():
        if _loaded(other).get(name) != loaded:
            yield f"{name} as in the library", "another address, size or content"
    for path in sorted(_paths(other)):
        if path.startswith("/"):
            yield "paths below the source tree alone", path


def _elf(data: bytes) -> ELFFile:
    return ELFFile(io.BytesIO(data))


def _loaded(elf: ELFFile) -> dict[str, tuple[int, int, bytes]]:
    """Section → address, size and content, for sections that are loaded at run time."""
    return {
        section.name: (
            section["sh_addr"],
            section["sh_size"],
            b"" if section["sh_type"] == "SHT_NOBITS" else section.data(),
        )
        for section in elf.iter_sections()
        if section["sh_flags"] & 2  # SHF_ALLOC
    }


def _paths(elf: ELFFile) -> set[str]:
    """Every folder and file path in the debug information."""
    found: set[str] = set()
    dwarf = elf.get_dwarf_info()
    for unit in dwarf.iter_CUs():
        attributes = unit.get_top_DIE().attributes
        for name in ("DW_AT_name", "DW_AT_comp_dir"):
            if name in attributes:
                found.add(attributes[name].value.decode(errors="replace"))
        lines = dwarf.line_program_for_CU(unit)
        if lines is not None:
            found.update(folder.decode(errors="replace") for folder in lines["include_directory"])
            found.update(entry.name.decode(errors="replace") for entry in lines["file_entry"])
    return found
