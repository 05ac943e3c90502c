"""The compiler that ``CXX`` names, and what is said of one that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend import host_compiler
from backend.host_compiler import HostCompilerError


def program(folder: Path, name: str, text: str = "echo 'made up 1.0'") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_the_first_on_path_if_cxx_is_not_set(tmp_path: Path) -> None:
    path = program(tmp_path, "g++")
    found = host_compiler.find({"PATH": str(tmp_path), "CXX": ""}, tmp_path)
    assert found is not None
    assert (found.words, found.version, found.chosen_by) == ((str(path),), "made up 1.0", "PATH")
    assert host_compiler.find({"PATH": str(tmp_path / "none")}, tmp_path) is None


@pytest.mark.parametrize("given", ["'{}/my tools/c++' -m64", "my\\ tools/c++ -m64"])
def test_cxx_is_a_command_in_the_syntax_of_a_shell(tmp_path: Path, given: str) -> None:
    path = program(tmp_path, "my tools/c++")
    found = host_compiler.find({"CXX": given.format(tmp_path)}, tmp_path)
    assert found is not None
    assert found.words == (str(path), "-m64")


@pytest.mark.parametrize("given", ['"', "'g++", " ", "g++ \\"])
def test_what_is_no_command_is_named(tmp_path: Path, given: str) -> None:
    with pytest.raises(HostCompilerError, match="which is no command"):
        host_compiler.find({"CXX": given}, tmp_path)


def test_one_on_path_that_says_no_version_is_tried(tmp_path: Path) -> None:
    program(tmp_path, "c++", "exit 1")
    found = host_compiler.find({"PATH": str(tmp_path)}, tmp_path)
    assert found is not None
    assert found.version == "unknown version"


@pytest.mark.parametrize("text", ["exit 1", "true", "echo version 1; exit 1"])
def test_a_command_that_does_not_work_is_named(tmp_path: Path, text: str) -> None:
    path = program(tmp_path, "broken", text)
    for given in (str(path), str(tmp_path / "none")):
        with pytest.raises(HostCompilerError, match="--version` does not work"):
            host_compiler.find({"CXX": given}, tmp_path)
