"""Toolkit folders: installed once, again for other pins, and never partially."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from ci.builder import toolkit
from ci.builder.toolkit import ToolkitNotFetched
from ci.matrix import Matrix, Pin
from ci.native import toolkit_requirements
from tests.ci.support.toolchain import toolkit_folder

QUIET = Console(quiet=True)


@pytest.mark.parametrize("version", ["11.8", "12.1"])
def test_a_folder_holds_the_compiler_the_headers_and_its_pins(
    the_matrix: Matrix, version: str
) -> None:
    folder = toolkit_folder(version)
    assert list(folder.glob("nvidia/cuda_nvrtc/lib/libnvrtc.so.*"))
    assert (folder / "nvidia/cuda_runtime/include/cuda_fp16.h").is_file()
    assert (folder / "nvidia/cuda_cccl/include/cuda/std").is_dir()
    listed = (folder / "requirements.txt").read_text()
    assert listed == toolkit_requirements(the_matrix.toolkits[version])
    assert listed.count("--hash=sha256:") == 3


def test_a_folder_with_these_pins_is_kept(the_matrix: Matrix, tmp_path: Path) -> None:
    known = the_matrix.toolkits["12.1"]
    made = tmp_path / "12.1"
    made.mkdir()
    (made / "requirements.txt").write_text(toolkit_requirements(known))
    assert toolkit.fetch([known], tmp_path, QUIET) == {"12.1": made}
    assert [path.name for path in made.iterdir()] == ["requirements.txt"]


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


@pytest.mark.usefixtures("no_index")
def test_pins_that_cannot_be_installed_leave_the_old_folder(
    the_matrix: Matrix, tmp_path: Path
) -> None:
    known = replace(the_matrix.toolkits["12.1"], pins=(Pin("no-such-toolkit", "1", "0" * 64),))
    old = tmp_path / "12.1"
    old.mkdir()
    (old / "requirements.txt").write_text("of other pins\n")
    with pytest.raises(
        ToolkitNotFetched, match=r"No matching distribution found for no-such-toolkit"
    ):
        toolkit.fetch([known], tmp_path, QUIET)
    assert (old / "requirements.txt").read_text() == "of other pins\n"
    assert [path.name for path in tmp_path.iterdir()] == ["12.1"]
