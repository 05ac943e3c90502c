"""Whether ccache is used, and how a build's hits are counted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from backend import ccache

COMPILER = ("c++",)


def script(folder: Path, version: str) -> dict[str, str]:
    """The environment that finds a ccache of this version."""
    path = folder / "ccache"
    path.write_text(f"#!/bin/sh\necho ccache version {version}\n")
    path.chmod(0o755)
    return {"PATH": str(folder)}


def test_there_is_none(tmp_path: Path) -> None:
    assert ccache.find({"PATH": str(tmp_path)}, COMPILER).program is None
    assert ccache.find({}, COMPILER).program is None


@pytest.mark.parametrize(
    ("version", "used"), [("3.7.7", False), ("4.3", False), ("4.4", True), ("4.14.1", True)]
)
def test_the_oldest_that_is_used(tmp_path: Path, version: str, used: bool) -> None:
    found = ccache.find(script(tmp_path, version), ())
    assert (found.program is not None) == used
    assert ("older than 4.4" in found.reason) != used


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("#!/nowhere/sh\n", "No such file or directory"),
        ("no program", "Exec format error"),
        ("#!/bin/sh\necho libzstd is missing >&2; exit 127\n", "libzstd is missing"),
        ("#!/bin/sh\nexit 1\n", "exit status 1 without output"),
        ("#!/bin/sh\necho ccache version 4.7 is broken; exit 1\n", "4.7 is broken"),
        ("#!/bin/sh\nprintf 'ccache \\377'\n", "does not work"),
        ("#!/bin/sh\n[ $1 = --version ] && echo version 4.7 || exit 3\n", "exit status 3"),
    ],
)
def test_one_that_does_not_work_is_ignored_with_the_reason(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "ccache"
    path.write_text(text)
    path.chmod(0o755)
    found = ccache.find({"PATH": f"{tmp_path}:/usr/bin:/bin"}, COMPILER)
    assert found.program is None
    assert found.reason.startswith(f"{path} is not used: it does not work: ")
    assert words in found.reason


@pytest.mark.skipif(shutil.which("ccache") is None, reason="no ccache here")
def test_a_real_one_without_a_folder_that_it_can_write(tmp_path: Path) -> None:
    environ = {"PATH": "/usr/bin:/bin", "CCACHE_CONFIGPATH": str(tmp_path / "none")}
    assert ccache.find({**environ, "CCACHE_DIR": str(tmp_path / "c")}, COMPILER).program is not None
    for folder in ("/dev/null/ccache", "/proc/ccache"):
        found = ccache.find({**environ, "CCACHE_DIR": folder}, COMPILER)
        assert found.program is None, folder
        assert folder in found.reason


def test_a_compiler_that_fails_without_ccache_does_not_count_against_it(tmp_path: Path) -> None:
    environ = {**script(tmp_path, "4.7"), "LANG": "C"}
    (tmp_path / "ccache").write_text('#!/bin/sh\n[ $1 = --version ] && echo version 4.7 || "$@"\n')
    assert ccache.find(environ, ("/bin/false",)).program is not None


def test_it_says_when_it_is_switched_off(tmp_path: Path) -> None:
    environ = {**script(tmp_path, "4.7"), "CCACHE_DISABLE": "1"}
    assert "switched off by CCACHE_DISABLE" in ccache.find(environ, ()).reason


LOG = """\
# ../../csrc/a.cpp
direct_cache_hit
local_storage_hit
# ../../csrc/b.cpp
direct_cache_miss
preprocessed_cache_hit
# ../../csrc/c.cu
direct_cache_miss
cache_miss
"""


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (None, "no compilation used it"),
        (LOG, "2 of 3 compilations were hits"),
        (LOG + "# d.cu\ncalled_for_link\n", "2 of 4 compilations were hits, 1 could not be cached"),
    ],
)
def test_hits(tmp_path: Path, log: str | None, words: str) -> None:
    path = tmp_path / "ccache.log"
    if log is not None:
        path.write_text(log)
    assert ccache.summary(path).startswith(words)
