"""The symbols of one instruction set's object file: one constant, and no shared function.

If they shared a function, the linker might keep the AVX-512 copy for all of them, and only an older
processor would crash.
"""

from __future__ import annotations

from collections import Counter
from typing import Dict

import numpy as np
import pytest

from tests.cpu.conftest import ARM_FLAGS, CSRC, ISA_FLAGS

SETS = [
    *(pytest.param("x86_64", isa, flags, id=isa) for isa, flags in ISA_FLAGS.items()),
    *(pytest.param("aarch64", isa, flags, id=isa) for isa, flags in ARM_FLAGS.items()),
]

# zig instruments what it does not optimize.
WITHOUT_CHECKS = ["-fno-sanitize=undefined", "-fno-stack-protector"]


@pytest.mark.parametrize(("processor", "isa", "flags"), SETS)
def test_an_object_defines_its_table_only(processor, isa, flags, compile_cpp):
    elffile = pytest.importorskip("elftools.elf.elffile")
    # Without optimization nothing is inlined: every function is seen that is not internal.
    source = CSRC / "cpu" / processor / f"isa_{isa}.cpp"
    options = ["-c", "-O0", "-fPIC", *WITHOUT_CHECKS, *flags]
    compiled = compile_cpp([source], *options, processor=processor)
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


# (mask, value) of instructions that not every 64-bit Arm processor has, from the Arm Architecture
# Reference Manual (DDI 0487): the vector forms, and those by element.
OPTIONAL = {
    "BFCVT": [(0xFFFFFC00, 0x1E634000)],
    "BFCVTN": [(0xBFFFFC00, 0x0EA16800)],
    "BFMLALB": [(0xFFE0FC00, 0x2EC0FC00), (0xFFC0F400, 0x0FC0F000)],
    "BFMLALT": [(0xFFE0FC00, 0x6EC0FC00), (0xFFC0F400, 0x4FC0F000)],
    "BFDOT": [(0xBFE0FC00, 0x2E40FC00), (0xBFC0F400, 0x0F40F000)],
    "BFMMLA": [(0xFFE0FC00, 0x6E40EC00)],
    "FMLAL": [(0xBFE0FC00, 0x0E20EC00), (0xBFC0F400, 0x0F800000)],
    "FMLAL2": [(0xBFE0FC00, 0x2E20CC00), (0xBFC0F400, 0x2F808000)],
    "SDOT": [(0xBFE0FC00, 0x0E809400), (0xBFC0F400, 0x0F80E000)],
    "UDOT": [(0xBFE0FC00, 0x2E809400), (0xBFC0F400, 0x2F80E000)],
}


def optional_instructions(path) -> Dict[str, int]:
    """How often each of OPTIONAL is in the code of an object for Arm."""
    from elftools.elf.elffile import ELFFile

    found: Counter = Counter()
    with path.open("rb") as stream:
        for section in ELFFile(stream).iter_sections():
            if not section["sh_flags"] & 4:  # SHF_EXECINSTR
                continue
            words = np.frombuffer(section.data(), "<u4")
            for name, forms in OPTIONAL.items():
                found[name] += sum(int((words & mask == value).sum()) for mask, value in forms)
    return {name: count for name, count in found.items() if count}


@pytest.mark.parametrize(
    ("isa", "expected"),
    [
        ("neon", set()),
        # Neither BFDOT nor BFMMLA, which round otherwise: see cpu/common/dot.h.
        ("bf16", {"BFCVTN", "BFMLALB", "BFMLALT", "FMLAL", "FMLAL2"}),
    ],
)
def test_instructions_that_not_every_arm_processor_has(isa, expected, compile_cpp):
    pytest.importorskip("elftools.elf.elffile")
    source = CSRC / "cpu" / "aarch64" / f"isa_{isa}.cpp"
    options = ["-c", "-O2", "-fPIC", *ARM_FLAGS[isa]]
    found = optional_instructions(compile_cpp([source], *options, processor="aarch64"))
    assert found.keys() - {"BFCVT"} == expected  # (of single elements: the compiler's choice)
