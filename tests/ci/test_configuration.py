"""A build folder with other inputs, or an unfinished configuration, is not reused."""

from __future__ import annotations

from pathlib import Path

from ci import configuration


def configure(folder: Path, inputs: dict[str, str]) -> list[str]:
    """What CMake does, in so far: it keeps a cache, and at its end the record."""
    reasons = configuration.begin(folder, inputs)
    folder.mkdir(exist_ok=True)
    (folder / "CMakeCache.txt").touch()
    (folder / configuration.RECORD).write_bytes(configuration.wanted(folder).read_bytes())
    return reasons


def test_the_same_inputs_keep_what_is_compiled(tmp_path: Path) -> None:
    folder = tmp_path / "build"
    assert configure(folder, {"CXX": "c++"}) == []
    (folder / "a.o").touch()
    before = configuration.wanted(folder).stat().st_mtime_ns
    assert configure(folder, {"CXX": "c++"}) == []
    assert (folder / "a.o").exists()
    assert configuration.wanted(folder).stat().st_mtime_ns == before  # or CMake runs anew


def test_each_difference_is_named_and_empties_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "build"
    configure(folder, {"CXX": "c++", "CXXFLAGS": "-O1", "LDFLAGS": "-s"})
    (folder / "a.o").touch()
    assert configure(folder, {"CXX": "clang++", "CMAKE_GENERATOR": "x", "LDFLAGS": "-s"}) == [
        "CMAKE_GENERATOR changed from not set to x",
        "CXX changed from c++ to clang++",
        "CXXFLAGS changed from -O1 to not set",
    ]
    assert not (folder / "a.o").exists()


def test_an_unfinished_configuration_starts_over(tmp_path: Path) -> None:
    folder = tmp_path / "build"
    for damage in ("", "{"):
        configure(folder, {})
        (folder / configuration.RECORD).unlink()
        if damage:
            (folder / configuration.RECORD).write_text(damage)
        assert configuration.begin(folder, {}) == ["its last configuration did not finish"]
        assert not folder.exists()


def test_which_settings_of_a_frontend_are_inputs() -> None:
    given = {"cmake.define.X": "1", "skbuild.ninja.version": ">=1.11", "editable.rebuild": "true"}
    assert configuration.of_settings(given) == {
        "the setting cmake.define.X": "1",
        "the setting skbuild.ninja.version": ">=1.11",
    }


def test_which_environment_variables_are_inputs() -> None:
    decides = {"CXX": "a", "CMAKE_ARGS": "b", "SKBUILD_CMAKE_DEFINE": "c", "CPATH": "d"}
    others = {"PATH": "e", "MAX_JOBS": "3", "CMAKE_BUILD_PARALLEL_LEVEL": "3"}
    assert configuration.of_environment({**decides, **others}) == decides
