"""Which environment variables a build uses, and which it must ignore."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ci.builder.canonical import BuildError, compiler_environment, source_date_epoch
from ci.git import Commit

COMMIT = Commit("a" * 40, 7, 1_700_000_000, dirty=False)


def test_files_have_the_commits_time_unless_set_otherwise() -> None:
    assert source_date_epoch(COMMIT, {}) == COMMIT.time
    assert source_date_epoch(COMMIT, {"SOURCE_DATE_EPOCH": "315532800"}) == 315532800


@pytest.mark.parametrize("value", ["now", "-1", "1.5"])
def test_an_invalid_time(value: str) -> None:
    with pytest.raises(BuildError, match="a number of seconds since 1970"):
        source_date_epoch(COMMIT, {"SOURCE_DATE_EPOCH": value})


def test_compilers_see_nothing_that_would_change_the_bits(tmp_path: Path) -> None:
    foreign = {
        "CXXFLAGS": "-O0",
        "CPATH": "/opt/include",
        "CMAKE_ARGS": "-DX=1",
        "SKBUILD_CMAKE_BUILD_TYPE": "Debug",
        "VLLM_TARGET_DEVICE": "cpu",
        "NINJA_STATUS": "x",
        "PATH": "/usr/bin",
        "PYTHONPATH": "/opt/python",
        "ZIG_LIB_DIR": "/opt/zig",
        "DESTDIR": "/opt",
        "CCC_OVERRIDE_OPTIONS": "+-O0",
    }
    harmless = {"HOME": "/home/a", "TMPDIR": "/var/tmp"}
    environ = compiler_environment(tmp_path, COMMIT, {**foreign, **harmless, "MAX_JOBS": "3"})
    assert environ == {
        **harmless,
        "PATH": f"{Path(sys.executable).parent}:/usr/bin",
        "CMAKE_BUILD_PARALLEL_LEVEL": "3",
        "VLLM_TARGET_DEVICE": "cuda",
        "NINJA_STATUS": "[%f/%t] ",
        "SOURCE_DATE_EPOCH": str(COMMIT.time),
        "ZIG_GLOBAL_CACHE_DIR": str(tmp_path / "zig"),
        "ZIG_LOCAL_CACHE_DIR": str(tmp_path / "zig-local"),
    }


def test_a_shared_cache_of_zig_is_used(tmp_path: Path) -> None:
    environ = compiler_environment(tmp_path, COMMIT, {"ZIG_GLOBAL_CACHE_DIR": "/var/zig"})
    assert environ["ZIG_GLOBAL_CACHE_DIR"] == "/var/zig"
