"""Whether ccache is used, and how a build's hits are counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend import ccache


def script(folder: Path, version: str) -> dict[str, str]:
    """The environment that finds a ccache of this version."""
    path = folder / "ccache"
    path.write_text(f"#!/bin/sh\necho ccache version {version}\n")
    path.chmod(0o755)
    return {"PATH": str(folder)}


def test_there_is_none(tmp_path: Path) -> None:
    assert ccache.find({"PATH": str(tmp_path)}).program is None
    assert ccache.find({}).program is None


@pytest.mark.parametrize(
    ("version", "used"), [("3.7.7", False), ("4.3", False), ("4.4", True), ("4.14.1", True)]
)
def test_the_oldest_that_is_used(tmp_path: Path, version: str, used: bool) -> None:
    found = ccache.find(script(tmp_path, version))
    assert (found.program is not None) == used
    assert ("older than 4.4" in found.reason) != used


def test_it_says_when_it_is_switched_off(tmp_path: Path) -> None:
    environ = {**script(tmp_path, "4.7"), "CCACHE_DISABLE": "1"}
    assert "switched off by CCACHE_DISABLE" in ccache.find(environ).reason


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
        (None, "nothing was compiled through it"),
        (LOG, "2 of 3 compilations were hits"),
        (LOG + "# d.cu\ncalled_for_link\n", "2 of 4 compilations were hits, 1 could not be cached"),
    ],
)
def test_hits(tmp_path: Path, log: str | None, words: str) -> None:
    path = tmp_path / "ccache.log"
    if log is not None:
        path.write_text(log)
    assert ccache.summary(path).startswith(words)
