#!/usr/bin/env python3
"""An nvcc for device code that needs no CUDA toolkit: NVRTC behind nvcc's own options.

    nvrtcc.py --toolkit=DIR --gpu-architecture=sm_80 -cubin -I csrc -MD -MF k.d -o k.cubin k.cu

DIR is where pip put NVIDIA's wheels (``pip install --target``); LIBRARIES and INCLUDES are where
they have theirs. Options that are not ours go to NVRTC as they are. Runs on any Python ≥ 3.8 with
nothing installed, since the build runs it by its name.
"""

import argparse
import ctypes
import os
import re
import sys
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

# Up to CUDA 12 each wheel has a folder of its own (``nvidia/cuda_nvrtc``), from 13 on all share one
# (``nvidia/cu13``), in which the C++ core libraries lie deeper.
LIBRARIES = "nvidia/*/lib"
INCLUDES = ("nvidia/*/include", "nvidia/*/include/cccl")
QUOTED_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"\n]+)"', re.MULTILINE)


class Failure(Exception):
    """Ends the program with a message, as a compiler does."""


class Nvrtc:
    """The few entry points of libnvrtc that turn a source into a cubin or PTX."""

    def __init__(self, toolkit: Path) -> None:
        libraries = sorted(toolkit.glob(f"{LIBRARIES}/libnvrtc.so.*"))
        if len(libraries) != 1:
            found = ", ".join(map(str, libraries)) or "nothing"
            raise Failure(f"expected one {LIBRARIES}/libnvrtc.so.* under {toolkit}, found {found}")
        try:
            # NVRTC of CUDA 13 looks for its other half by name alone, where no loader finds it.
            for builtins in toolkit.glob(f"{LIBRARIES}/libnvrtc-builtins.so.*"):
                ctypes.CDLL(str(builtins))
            self._library = ctypes.CDLL(str(libraries[0]))
        except OSError as error:
            raise Failure(f"cannot load NVRTC: {error}") from error
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p

    def version(self) -> str:
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._check(self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
        return f"{major.value}.{minor.value}"

    def architectures(self) -> List[int]:
        """The compute capabilities that it compiles for: 90 is 9.0 (and 9.0a, where there is)."""
        count = ctypes.c_int()
        self._check(self._library.nvrtcGetNumSupportedArchs(ctypes.byref(count)))
        found = (ctypes.c_int * count.value)()
        self._check(self._library.nvrtcGetSupportedArchs(found))
        return list(found)

    def compile(
        self, source: bytes, name: str, options: Sequence[str], output: str
    ) -> Tuple[Optional[bytes], str]:
        """The cubin or PTX (None if the source has errors), and the compiler's log.

        output: ``CUBIN`` or ``PTX``.
        """
        library, program = self._library, ctypes.c_void_p()
        self._check(
            library.nvrtcCreateProgram(ctypes.byref(program), source, name.encode(), 0, None, None)
        )
        try:
            words = [option.encode() for option in options]
            status = library.nvrtcCompileProgram(
                program, len(words), (ctypes.c_char_p * len(words))(*words)
            )
            log = self._read(program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
            if status:
                return None, log or self._words(status)
            data = self._read(program, output)
            # PTX is text, and NVRTC counts its closing NUL.
            return (data.rstrip(b"\0") if output == "PTX" else data), log
        finally:
            library.nvrtcDestroyProgram(ctypes.byref(program))

    def _read(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._check(getattr(self._library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
        data = ctypes.create_string_buffer(size.value)
        self._check(getattr(self._library, f"nvrtcGet{what}")(program, data))
        return data.raw

    def _check(self, status: int) -> None:
        if status:
            raise Failure(self._words(status))

    def _words(self, status: int) -> str:
        words: bytes = self._library.nvrtcGetErrorString(status)
        return words.decode()


def find_dependencies(source: Path, folders: Sequence[Path]) -> List[Path]:
    """`source` and every file that it includes by a quoted name, directly or not.

    CUDA's own headers are included in angle brackets and are pinned with the toolkit, so they are
    no part of this. A name that is not found is left to the compiler to complain about.
    """
    found: Dict[Path, None] = {}
    waiting = [source]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = None
        for name in QUOTED_INCLUDE.findall(path.read_text(encoding="utf-8")):
            candidates = (
                Path(os.path.normpath(folder / name)) for folder in (path.parent, *folders)
            )
            waiting.extend([candidate for candidate in candidates if candidate.is_file()][:1])
    return list(found)


def warns_of_source(log: str) -> bool:
    """Whether a log has more than NVRTC's words on its options, as on an arch that is old to it."""
    lines = filter(None, map(str.strip, log.splitlines()))
    return any(not line.startswith("nvrtc: warning:") for line in lines)


def write_depfile(path: Path, target: Path, dependencies: Sequence[Path]) -> None:
    """A Makefile rule that names what `target` was made from, as ninja and ccache read it."""

    def escape(name: Path) -> str:
        return str(name).replace("$", "$$").replace("#", "\\#").replace(" ", "\\ ")

    names = " \\\n  ".join(map(escape, dependencies))
    path.write_text(f"{escape(target)}: \\\n  {names}\n", encoding="utf-8")


def parse(argv: Sequence[str]) -> Tuple[argparse.Namespace, List[str]]:
    parser = argparse.ArgumentParser(prog="nvrtcc", description=__doc__, allow_abbrev=False)
    parser.add_argument("--toolkit", type=Path, required=True)
    parser.add_argument("--version", action="store_true")
    parser.add_argument("--gpu-architecture", metavar="sm_XY|compute_XY")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("-cubin", dest="form", action="store_const", const="CUBIN", default="CUBIN")
    form.add_argument("-ptx", dest="form", action="store_const", const="PTX")
    parser.add_argument("-I", dest="include", type=Path, action="append", default=[])
    parser.add_argument("-MD", action="store_true")
    parser.add_argument("-MF", dest="depfile", type=Path)
    parser.add_argument("-Werror", dest="warnings_are_errors", action="store_true")
    parser.add_argument("-c", action="store_true", help="accepted, since ccache insists on it")
    parser.add_argument("-o", dest="output", type=Path)
    parser.add_argument("source", type=Path, nargs="?")
    args, others = parser.parse_known_args(argv)
    if not args.version:
        for name in ("gpu_architecture", "output", "source"):
            if getattr(args, name) is None:
                parser.error(f"missing {name.replace('_', '-')}")
        if args.MD and args.depfile is None:
            parser.error("-MD needs -MF")
    return args, others


def run(args: argparse.Namespace, others: Sequence[str]) -> None:
    nvrtc = Nvrtc(args.toolkit)
    if args.version:
        print(f"NVRTC {nvrtc.version()}")
        return
    digits = re.sub(r"\D", "", args.gpu_architecture)
    known = nvrtc.architectures()
    if int(digits or 0) not in known:
        raise Failure(
            f"CUDA {nvrtc.version()} does not compile for {args.gpu_architecture}, "
            f"only for {' '.join(f'sm_{arch}' for arch in known)}"
        )
    folders = [args.source.parent, *args.include]
    options = [
        f"--gpu-architecture={args.gpu_architecture}",
        *others,
        *(f"--include-path={folder}" for folder in folders),
        *(
            f"--include-path={path}"
            for pattern in INCLUDES
            for path in sorted(args.toolkit.glob(pattern))
        ),
    ]
    result, log = nvrtc.compile(args.source.read_bytes(), str(args.source), options, args.form)
    if log.strip():
        print(log.strip("\n"), file=sys.stderr)
    if result is None or (args.warnings_are_errors and warns_of_source(log)):
        # A stale output would look up to date.
        args.output.unlink(missing_ok=True)
        why = "errors" if result is None else "warnings, which -Werror makes errors"
        raise Failure(f"{args.source}: {why} for {args.gpu_architecture}, see above")
    args.output.write_bytes(result)
    if args.MD:
        write_depfile(args.depfile, args.output, find_dependencies(args.source, folders))


def main(argv: Sequence[str]) -> int:
    try:
        run(*parse(argv))
    except (Failure, OSError) as error:
        print(f"nvrtcc: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
