"""Invalid arguments of ``python -m ci build`` and related commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.__main__ import main
from tests.ci.support.repository import commit, run


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that holds nothing, as the working folder."""
    run(tmp_path, "init", "-q", "-b", "main")
    commit(tmp_path, "one")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refuse(capsys: pytest.CaptureFixture[str], arguments: list[str], *words: str) -> None:
    assert main(arguments) == 1
    shown = " ".join(capsys.readouterr().err.split())
    for word in words:
        assert word in shown


@pytest.mark.parametrize("command", ["build", "release"])
def test_a_folder_that_is_no_checkout(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    refuse(capsys, [command], "is not a git checkout", "in a clone made by `git clone`")


def test_a_dirty_tree(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repo / "new.cu").write_text("")
    refuse(capsys, ["build"], "uncommitted changes", "new.cu", "--allow-dirty")
    refuse(capsys, ["release", "--version", "1.0"], "uncommitted changes", "new.cu")


def test_an_unknown_variant(
    repo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (repo / "ci").mkdir()
    root = Path(__file__).parents[3]
    (repo / "ci" / "matrix.toml").write_text((root / "ci" / "matrix.toml").read_text())
    run(repo, "add", ".")
    commit(repo, "two")
    words = ["unknown variant 'cu999'", "use one of: cu118, cu121"]
    refuse(capsys, ["build", "--variant", "cu999"], *words)


def test_a_release_without_a_version(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refuse(capsys, ["release"], "this commit has no tag", "pass --version")


def test_a_part_of_a_release_is_not_published(
    repo: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["release", "--version", "1.0", "--variant", "cu118"]
    words = ["a release of cu118 alone", "release --cells FOLDER"]
    refuse(capsys, [*arguments, "--publish", str(tmp_path / "bucket")], *words)
    assert not (tmp_path / "bucket").exists()


def test_an_invalid_label(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["build", "--label", "0.5.4"])
    assert "use VERSION=PYTHON-ABI-PLATFORM" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["audit", "verify"])
def test_a_wheel_that_is_not_there(
    command: str, repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse(capsys, [command, "vllm-1-py3-none-any.whl"], "expected a file, found nothing")
