"""What a build hands to CMake, writes beside it, and counts as an input of its configuration."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from backend import plan
from backend.host_compiler import HostCompilerError
from backend.plan import Plan
from tests.backend.conftest import MakeNvcc
from tests.backend.test_host_compiler import program
from tests.ci.support import repository

CPU = {"VLLM_TARGET_DEVICE": "cpu"}


def make(root: Path, environ: dict[str, str], **given: object) -> Plan:
    return plan.make(root, {"PATH": "", **environ}, given, root / "ccache.log")


def test_the_host_compiler_is_handed_to_cmake_and_is_an_input(tmp_path: Path) -> None:
    path = program(tmp_path, "my c++")
    made = make(tmp_path, {**CPU, "CXX": f"'{path}' -m64"})
    assert made.environ["CXX"] == made.inputs["CXX"] == f"'{path}' -m64"
    assert made.inputs["the host compiler"] == "made up 1.0"
    assert made.defines["VLLM_TARGET_DEVICE"] == "cpu"
    # CMake caches those of an earlier build.
    assert (made.defines["VLLM_VARIANTS"], made.defines["VLLM_PREBUILT"]) == ("", "")
    info = json.loads(Path(made.defines["VLLM_BUILD_INFO"]).read_text())
    assert (info["variant"], info["cuda"], info["commit"]) == ("cpu", None, None)


def test_without_a_compiler_one_has_to_be_named_to_cmake(tmp_path: Path) -> None:
    with pytest.raises(HostCompilerError, match=r"no C\+\+ compiler"):
        make(tmp_path, CPU)
    for name in ("CMAKE_CXX_COMPILER", "CMAKE_TOOLCHAIN_FILE"):
        made = make(tmp_path, CPU, **{f"cmake.define.{name}": "/there"})
        assert "CXX" not in made.environ
        assert "/there" in str(made.inputs)  # another one is another configuration


def test_another_nvcc_or_other_flags_of_it_are_told_to_ninja(
    tmp_path: Path, nvcc: MakeNvcc
) -> None:
    def words(**environ: str) -> tuple[str, int]:
        made = make(tmp_path, {**given, **environ})
        info = json.loads(Path(made.defines["VLLM_BUILD_INFO"]).read_text())
        assert (info["variant"], info["cuda"]) == ("cu130", "13.0")
        (path,) = (tmp_path / "build").glob("nvcc-*.txt")
        assert str(path) in str(made.defines)
        return path.read_text(), path.stat().st_mtime_ns

    given = {**nvcc("13.0"), "CXX": str(program(tmp_path, "c++"))}
    flags = {"NVCC_PREPEND_FLAGS": "-a", "NVCC_APPEND_FLAGS": "-b"}
    plain, _ = words()
    assert "release 13.0" in plain
    text, time = words(**flags)
    assert text == f"{plain}NVCC_APPEND_FLAGS=-b\nNVCC_PREPEND_FLAGS=-a\n"
    os.utime(tmp_path / "build" / "nvcc-13.0.txt", ns=(time - 10**9, time - 10**9))
    again = words(**dict(reversed(flags.items())))
    assert again == (text, time - 10**9)  # nothing is compiled again


def test_the_commit_and_whether_it_was_changed_are_recorded(tmp_path: Path) -> None:
    def recorded() -> tuple[object, object]:
        made = make(tmp_path, {"VLLM_TARGET_DEVICE": "empty"})
        info = json.loads(Path(made.defines["VLLM_BUILD_INFO"]).read_text())
        return info["commit"], info["dirty"]

    repository.run(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("build/\n")
    repository.run(tmp_path, "add", ".gitignore")
    sha = repository.commit(tmp_path, "first")
    assert recorded() == (sha, False)
    (tmp_path / ".gitignore").write_text("build/\n*.o\n")
    assert recorded() == (sha, True)
