#!/usr/bin/env python3
"""Links a library with the given command, and a second time with debug symbols.

    link_twice.py DEBUG zig c++ … -s … -o LIBRARY …

DEBUG is the file that a debugger loads for LIBRARY: the same code at the same addresses, with the
same build-id, which is a hash of LIBRARY. Linking twice avoids objcopy, whose version would change
the bits; zig's own does not write ELF.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import List, Sequence

# Header of an ELF note: sizes of name and content, type (build-id), name.
BUILD_ID = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0"


def main(arguments: Sequence[str]) -> int:
    debug, zig, *command = arguments
    done = subprocess.run([zig, *command], check=False)
    if done.returncode:
        return done.returncode
    # Run again with -v for the linker's command line; all else is now in zig's cache.
    again = subprocess.run([zig, *command, "-v"], stderr=subprocess.PIPE, text=True, check=True)
    library = command[command.index("-o") + 1]
    linkers = [split(line) for line in again.stderr.splitlines() if line.startswith("ld.lld")]
    (linker,) = [words for words in linkers if f"-o {library} " in " ".join(words)]
    return subprocess.run([zig, *with_symbols(linker, library, debug)], check=False).returncode


def split(line: str) -> List[str]:
    """Splits a command that zig printed without quotes: a path extends until it is a file."""
    words, parts = [], line.split(" ")
    while parts:
        word = parts.pop(0)
        if word.startswith("/"):
            joined = (" ".join([word, *parts[:count]]) for count in range(len(parts) + 1))
            path = next((path for path in joined if Path(path).is_file()), word)
            del parts[: path.count(" ") - word.count(" ")]
            word = path
        words.append(word)
    return words


def with_symbols(linker: Sequence[str], library: str, debug: str) -> List[str]:
    """The command of `linker` for `library`, changed to link `debug` with symbols."""
    changed = {
        "-s": "--compress-debug-sections=zlib",
        "--build-id=sha1": f"--build-id=0x{build_id(Path(library).read_bytes())}",
        library: debug,
    }
    return [changed.get(word, word) for word in linker]


def build_id(library: bytes) -> str:
    """The build-id of an ELF file, in hex. Raises ValueError if it has none."""
    start = library.index(BUILD_ID) + len(BUILD_ID)
    return library[start : start + 20].hex()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
