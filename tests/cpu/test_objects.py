"""What the kernels of one instruction set show to the linker: one constant, and nothing shared.

Were a function of theirs shared, the linker might keep the AVX-512 copy for all of them, and only
an older processor would tell.
"""

from __future__ import annotations

import pytest

from tests.cpu.conftest import CSRC, ISA_FLAGS

# zig instruments what it does not optimize.
WITHOUT_CHECKS = ["-fno-sanitize=undefined", "-fno-stack-protector"]


@pytest.mark.parametrize("isa", ISA_FLAGS)
def test_an_object_defines_its_table_only(isa, compile_cpp):
    elffile = pytest.importorskip("elftools.elf.elffile")
    # Without optimization nothing is inlined: every function is seen that is not internal.
    source = CSRC / "cpu" / "x86_64" / f"isa_{isa}.cpp"
    compiled = compile_cpp([source], "-c", "-O0", "-fPIC", *WITHOUT_CHECKS, *ISA_FLAGS[isa])
    with compiled.open("rb") as stream:
        symbols = list(elffile.ELFFile(stream).get_section_by_name(".symtab").iter_symbols())
    shown = [symbol for symbol in symbols if symbol["st_info"]["bind"] != "STB_LOCAL"]
    defined = {symbol.name for symbol in shown if symbol["st_shndx"] != "SHN_UNDEF"}
    assert defined == {f"_ZN4vllm3cpu{len(isa) + 8}{isa}_kernelsE"}
    # And it calls the C library only, by names that C++ does not mangle.
    assert {symbol.name for symbol in shown} - defined <= {"", "memcpy", "memset", "memmove"}

    sections = {name for name in (".init_array", ".ctors") if has_section(compiled, name)}
    assert not sections, "code that runs when the library is loaded, on whatever processor"


def has_section(path, name: str) -> bool:
    from elftools.elf.elffile import ELFFile

    with path.open("rb") as stream:
        return ELFFile(stream).get_section_by_name(name) is not None
