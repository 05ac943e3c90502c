"""Which wheels are rebuilt, by whose code, and what is said where that fails.

The commit's own `ci` is a stand-in that copies a wheel; real ones are rebuilt in
tests/ci/builder/test_build.py.
"""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from ci import git, verify
from ci.verify import VerifyError
from ci.wheel import symbols
from ci.wheel.archive import Compressor, Member
from ci.wheel.build_info import BuildInfo
from ci.wheel.compare import Difference
from ci.wheel.pack import repack
from ci.wheel.reader import read
from tests.ci.clients.conftest import plain_hosting
from tests.ci.support import repository
from tests.ci.support.toolchain import ROOT, with_symbols

BUILD = BuildInfo("0" * 40, "12.1", False, "sha256:" + "1" * 64, "cu121")
TAG = "cp38-abi3-manylinux1_x86_64"
# Copies a wheel, if the command is the one that makes it.
STAND_IN = f"""\
import os, pathlib, shutil, sys
expected = ["build", "--variant", "cu121", "--label", "0.5.4={TAG}", "--out"]
if sys.argv[1:-1] != expected:
    sys.exit(f"not {{sys.argv}}")
pathlib.Path(sys.argv[-1]).mkdir()
shutil.copy(os.environ["REBUILT"], sys.argv[-1])
"""
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a wheel."""

    def make(folder: str, build: BuildInfo = BUILD, library: bytes = b"library") -> Path:
        members = [
            Member("vllm/_C.abi3.so", library),
            Member("vllm-0.dist-info/METADATA", b"Metadata-Version: 2.1\nName: vllm\nVersion: 0\n"),
            Member("vllm-0.dist-info/WHEEL", b"Wheel-Version: 1.0\nTag: none\n"),
            Member("vllm-0.dist-info/build.json", build.render()),
        ]
        name, data = repack(
            members, version="0.5.4", tag=TAG, timestamp=1_700_000_000, compress=Compressor()
        )
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(data)
        return tmp_path / folder / name

    return make


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with the pins of this one and the stand-in; what lies in it is another's."""
    repo = tmp_path / "repo"
    (repo / "ci").mkdir(parents=True)
    (repo / "requirements").mkdir()
    repository.run(repo, "init", "-q")
    (repo / "ci/__main__.py").write_text(STAND_IN)
    shutil.copy(ROOT / "requirements/ci.txt", repo / "requirements")
    repository.run(repo, "add", "--all")
    repository.commit(repo, "one")
    (repo / "ci/__main__.py").write_text("raise SystemExit('this is not committed')")
    return repo


def of_head(repo: Path) -> BuildInfo:
    return replace(BUILD, commit=repository.run(repo, "rev-parse", "HEAD"))


def run(wheel: Path, repo: Path, folder: Path) -> Difference | None:
    folder.mkdir()
    said = io.StringIO()
    found = verify.verify(wheel, repo, folder, Console(file=said, width=20))
    commit = repository.run(repo, "rev-parse", "HEAD")
    assert said.getvalue() == f"rebuilding {wheel.name} from commit {commit}\n"
    return found


@pytest.mark.parametrize("unknown", [{"commit": None}, {"dirty": True}, {"native_digest": None}])
def test_a_wheel_that_cannot_be_rebuilt(
    make: Make, tmp_path: Path, unknown: dict[str, object]
) -> None:
    wheel = make("wheel", replace(BUILD, **unknown))  # type: ignore[arg-type]
    with pytest.raises(VerifyError, match="does not name a commit, or was not built by pinned"):
        run(wheel, ROOT, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_commit_that_is_not_there(make: Make, repo: Path, tmp_path: Path) -> None:
    with pytest.raises(git.GitError):
        run(make("wheel"), repo, tmp_path / "out")


def test_it_is_rebuilt_by_its_commit_and_compared(
    make: Make, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make("published", of_head(repo))
    monkeypatch.setenv("REBUILT", str(wheel))
    assert run(wheel, repo, tmp_path / "same") is None
    monkeypatch.setenv("REBUILT", str(make("rebuilt", of_head(repo), b"librarY")))
    found = run(wheel, repo, tmp_path / "other")
    assert found is not None
    assert (found.member, found.byte) == ("vllm/_C.abi3.so", 6)


def test_a_build_that_fails_says_why(
    make: Make, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REBUILT", str(tmp_path / "gone"))
    with pytest.raises(
        VerifyError, match=r"(?s)ci build --variant .* failed:\nTraceback.*No such file"
    ):
        run(make("wheel", of_head(repo)), repo, tmp_path / "out")


def test_other_compilers_than_the_commits_are_refused(
    make: Make, repo: Path, tmp_path: Path
) -> None:
    pins = repo / "requirements/ci.txt"
    pins.write_text(re.sub(r"(?m)^ziglang==\S+", "ziglang==0.0.1", pins.read_text("utf-8")))
    repository.run(repo, "checkout", "-q", "--", "ci")
    repository.run(repo, "commit", "-q", "-a", "-m", "two")
    with pytest.raises(VerifyError, match=r"that commit needs .*'ziglang': '0\.0\.1'"):
        run(make("wheel", of_head(repo)), repo, tmp_path / "out")


def test_a_wheel_and_its_symbols_come_from_an_address(make: Make, tmp_path: Path) -> None:
    library, debug = with_symbols("int answer() { return 42; }")
    wheel = make("a+b", library=library)
    assert verify.fetch(str(wheel), tmp_path) == wheel
    assert verify.symbols_beside(str(wheel), read(wheel), tmp_path) is None
    build_id = str(symbols.build_id(library))
    symbols.place(debug, build_id, wheel.parent)
    beside = verify.symbols_beside(str(wheel), read(wheel), tmp_path)
    assert beside == wheel.parent / symbols.name_of(build_id)
    (tmp_path / "out").mkdir()
    with plain_hosting(tmp_path) as base:
        where = f"{base}/a%2Bb/{wheel.name}"
        got = verify.fetch(where, tmp_path / "out")
        assert (got.name, got.read_bytes()) == (wheel.name, wheel.read_bytes())
        fetched = verify.symbols_beside(where, read(got), tmp_path / "out")
        assert fetched is not None
        assert fetched.read_bytes() == debug
        # An address without its last slash is redirected, as downloads of releases are.
        assert wheel.name in verify.fetch(f"{base}/a%2Bb", tmp_path / "out").read_text()
        with pytest.raises(VerifyError, match=r"cannot download .*/gone\.whl: .*404"):
            verify.fetch(f"{base}/gone.whl", tmp_path / "out")


def test_a_library_that_has_no_name_has_no_symbols(make: Make, tmp_path: Path) -> None:
    wheel = make("wheel")
    assert verify.symbols_beside(str(wheel), read(wheel), tmp_path) is None


def test_symbols_are_the_rebuilt_ones_byte_for_byte(tmp_path: Path) -> None:
    for build_id in ("aa", "bb"):
        symbols.place(build_id.encode(), build_id, verify.rebuilt(tmp_path))
    for content, same in ((b"bb", True), (b"b", False)):
        (tmp_path / "published").write_bytes(content)
        assert verify.are_rebuilt(tmp_path / "published", tmp_path) is same
