"""Debug symbols: those of the library, found by its build-id, and loaded by a real gdb."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ci import matrix
from ci.publish import IncompleteSet, PublishError, publish
from ci.serve import running
from ci.store import FolderStore
from ci.wheel import symbols
from tests.ci.support.toolchain import with_symbols
from tests.ci.support.wheels import Factory, clock

SOURCE = """\
extern "C" int fail(const int* p) {
  return *p;
}
"""
OTHER = SOURCE.replace("*p;", "*p + 1;")


@pytest.mark.parametrize("target", [platform.zig_target for platform in matrix.load().platforms])
def test_symbols_are_the_library_again_with_lines_and_no_path_of_this_machine(target: str) -> None:
    library, debug = with_symbols(SOURCE, target)
    assert list(symbols.problems(debug, library)) == []
    assert len(debug) > len(library)
    assert b".debug_line" not in library
    assert str(Path.home()).encode() not in debug


def test_linking_twice_gives_the_same_bits() -> None:
    once = with_symbols(SOURCE)
    with_symbols.cache_clear()
    assert with_symbols(SOURCE) == once


def test_what_is_not_of_the_library_is_refused() -> None:
    library, debug = with_symbols(SOURCE)
    ours, theirs = (symbols.build_id(with_symbols(text)[0]) for text in (SOURCE, OTHER))
    found = list(symbols.problems(with_symbols(OTHER)[1], library))
    assert found == [(f"build-id {ours}", f"build-id {theirs}")]
    assert dict(symbols.problems(b"not ELF", library)).popitem()[1] == "build-id None"
    assert dict(symbols.problems(library, library)) == {
        "symbols and lines": "no .symtab, .debug_info, .debug_line"
    }
    code = symbols._loaded(symbols._elf(debug))[".text"][2]
    changed = debug.replace(code, bytes(len(code)))
    assert dict(symbols.problems(changed, library)) == {
        ".text as in the library": "another address, size or content"
    }
    with pytest.raises(symbols.BadSymbols, match="build-id None"):
        symbols.check(b"", library)


def test_a_library_without_a_build_id() -> None:
    assert symbols.build_id(b"no library") is None
    assert symbols.build_id(with_symbols(SOURCE)[0].replace(b"GNU\0", b"UNG\0")) is None


@pytest.fixture
def lending(factory: Factory, tmp_path: Path) -> Factory:
    """Makes wheels with a library that crashes, and leaves its symbols beside them."""
    return Factory(tmp_path / "wheels", factory.matrix, libraries={"x86_64": with_symbols(SOURCE)})


def test_a_commit_is_published_with_its_symbols_or_not_at_all(
    lending: Factory, tmp_path: Path
) -> None:
    store = FolderStore(tmp_path / "bucket", durable=False)
    library, debug = with_symbols(SOURCE)
    name = symbols.name_of(str(symbols.build_id(library)))
    commit = lending.commit(1)
    wheels = lending.wheels(commit)
    beside = wheels[0].path.parent / name
    beside.write_bytes(with_symbols(OTHER)[1])
    with pytest.raises(PublishError, match="the symbols of another library"):
        publish(store, wheels, commit, lending.matrix)
    beside.unlink()
    with pytest.raises(IncompleteSet, match="debug symbols are missing"):
        publish(store, wheels, commit, lending.matrix)
    beside.write_bytes(debug)
    result = publish(store, wheels, commit, lending.matrix, clock=clock)
    assert store.get(f"{commit.sha}/{name}").body == debug
    assert [each.sha256 for each in result.unit.attachments if each.name == name]
    page = store.get(f"{commit.sha}/index.html").body.decode()
    assert f"{commit.sha} gdb -iex" in page
    assert f'href="{name}"' in page


@pytest.mark.skipif(shutil.which("gdb") is None, reason="no gdb here")
def test_gdb_shows_function_file_and_line_of_a_crash(lending: Factory, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "bucket", durable=False)
    commit = lending.commit(1)
    publish(store, lending.wheels(commit), commit, lending.matrix)
    library = tmp_path / "_C.abi3.so"
    library.write_bytes(with_symbols(SOURCE)[0])
    crash = f"import ctypes; ctypes.CDLL({str(library)!r}).fail(None)"
    gdb = ["gdb", "--nx", "--batch", "-ex", "run", "-ex", "backtrace 2"]
    with running(store) as base:
        environ = {
            **os.environ,
            "HOME": str(tmp_path),
            "DEBUGINFOD_CACHE_PATH": str(tmp_path / "cache"),
            "DEBUGINFOD_URLS": f"{base}/{commit.sha}",
        }
        # As its documentation has it: gdb asks before it downloads, and in a batch does not.
        enabled = ["-iex", "set debuginfod enabled on"]
        done = subprocess.run(
            [*gdb[:3], *enabled, *gdb[3:], "--args", sys.executable, "-c", crash],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
    if "ptrace: Operation not permitted" in done.stderr:
        pytest.skip("no process may be traced here")
    said = done.stdout + done.stderr
    assert "SIGSEGV" in said, said
    assert "#0  fail (p=0x0) at csrc/module.cpp:2" in said, said
