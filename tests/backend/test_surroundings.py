"""Obstacles to a build on a machine are handled or reported, without a traceback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from ci.wheel import reader
from tests.backend.conftest import IMPORT, MakeNvcc, call_hook, copy_tree
from tests.ci.support import repository

EMPTY = {"VLLM_TARGET_DEVICE": "empty"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return copy_tree(tmp_path / "tree")


@pytest.fixture
def checkout(tree: Path) -> Path:
    """The tree as two commits."""
    repository.run(tree, "init", "-q")
    repository.commit(tree, "nothing")
    repository.run(tree, "add", "--all")
    repository.commit(tree, "everything")
    return tree


def built(tree: Path, out: Path, **environ: str) -> tuple[reader.WheelFile, str]:
    """A wheel without native code, and what the build said."""
    done = call_hook(tree, "build_wheel(OUT)", out, **{**EMPTY, **environ})
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.iterdir()
    return reader.read(path), done.stdout


def test_a_commit_is_that_of_the_tree(checkout: Path, tmp_path: Path) -> None:
    """Whatever repository the caller's variables name, as in a hook of git."""
    sha = repository.run(checkout, "rev-parse", "HEAD")
    other = tmp_path / "other"
    repository.run(tmp_path, "init", "-q", str(other))
    repository.commit(other, "another")
    wheel, said = built(checkout, tmp_path / "out", GIT_DIR=str(other / ".git"))
    assert (wheel.build.commit, wheel.build.dirty) == (sha, False)
    assert f"vllm: commit    {sha}\n" in said


def test_a_shallow_clone_has_a_commit(checkout: Path, tmp_path: Path) -> None:
    sha = repository.run(checkout, "rev-parse", "HEAD")
    shallow = tmp_path / "shallow"
    repository.run(tmp_path, "clone", "-q", "--depth=1", checkout.as_uri(), str(shallow))
    assert built(shallow, tmp_path / "out")[0].build.commit == sha


def test_it_says_why_a_commit_is_not_known(checkout: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(checkout / ".git", 65534, 65534)
        wheel, said = built(checkout, tmp_path / "foreign", GIT_CONFIG_GLOBAL="/dev/null")
        assert wheel.build.commit is None
        assert "unknown, so vllm.__commit__ will be None" in said
        assert f"git config --global --add safe.directory {checkout}" in said
        os.chown(checkout / ".git", 0, 0)
    programs = tmp_path / "bin"  # all but git
    programs.mkdir()
    for name in ("cmake", "ninja", "sh"):
        (programs / name).symlink_to(str(shutil.which(name)))
    wheel, said = built(checkout, tmp_path / "without", PATH=str(programs))
    assert wheel.build.commit is None
    assert "None: git is not on PATH (install git" in said
    shutil.rmtree(checkout / ".git")
    assert "vllm: commit    unknown: not a git checkout" in built(checkout, tmp_path / "sdist")[1]


def test_a_toolkit_by_a_relative_path(tree: Path, tmp_path: Path, nvcc: MakeNvcc) -> None:
    """The check of an architecture runs in another folder, as do the compilers."""
    home = Path(nvcc("13.0")["CUDA_HOME"])
    shutil.copytree(home, tree / "cuda")
    defines = "b.plan.make(b.ROOT, b.os.environ, {}, b.CCACHE_LOG).defines"
    code = f"next(value for name, value in {defines}.items() if name.endswith('_NVCC'))"
    hook = f"_for_people(lambda: {code})()"
    for environ in ({"CUDA_HOME": "cuda"}, {"CUDA_HOME": "", "PATH": "cuda/bin:/usr/bin:/bin"}):
        asked = {**environ, "TORCH_CUDA_ARCH_LIST": "9.0"}
        done = call_hook(tree, hook, tmp_path, **asked)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == f"{tree}/cuda/bin/nvcc"


def test_a_machine_without_a_compiler(tree: Path, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("cmake", "ninja"):
        (programs / name).symlink_to(str(shutil.which(name)))
    environ = {"VLLM_TARGET_DEVICE": "cpu", "PATH": str(programs)}
    done = call_hook(tree, "build_wheel(OUT)", tmp_path / "out", **environ)
    assert done.returncode == 1
    assert "error: no C++ compiler: none of c++, g++, clang++ is on PATH" in done.stderr
    assert "Traceback" not in done.stderr


def without_rights(command: Sequence[str]) -> list[str]:
    """A command that may not write what is write-protected, also for root."""
    if os.geteuid() != 0:
        return list(command)
    dropped = "-dac_override,-dac_read_search"
    return ["setpriv", f"--bounding-set={dropped}", f"--inh-caps={dropped}", *command]


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no setpriv (util-linux) here")
def test_a_tree_that_may_not_be_written(tree: Path, tmp_path: Path) -> None:
    code = f"{IMPORT}; b.build_wheel({str(tmp_path)!r})"
    tree.chmod(0o555)
    done = subprocess.run(
        without_rights([sys.executable, "-B", "-c", code]),
        cwd=tree,
        env={**os.environ, **EMPTY},
        capture_output=True,
        text=True,
    )
    tree.chmod(0o755)
    assert done.returncode == 1
    assert f"error: [Errno 13] Permission denied: '{tree}/build'" in done.stderr
    assert "what it means: this user lacks permission there" in done.stderr
    assert "what to do:    work in a copy of your own" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.skipif(shutil.which("setarch") is None, reason="no setarch (util-linux) here")
def test_another_processor_is_named_before_anything_is_compiled(tree: Path, device: str) -> None:
    """The system is asked to call this processor another one."""
    code = f"{IMPORT}; b.get_requires_for_build_wheel()"
    for asked, status in ((device, 1), ("empty", 0)):
        done = subprocess.run(
            ["setarch", "i686", sys.executable, "-c", code],
            cwd=tree,
            env={**os.environ, "VLLM_TARGET_DEVICE": asked},
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stderr
    assert call_hook(tree, "get_requires_for_build_wheel()", tree).returncode == 0


def test_what_it_says_of_another_processor(nvcc: MakeNvcc) -> None:
    from backend import options

    for device in ("cuda", "cpu"):
        with pytest.raises(options.OptionError) as caught:
            options.read({"VLLM_TARGET_DEVICE": device}, "linux", "riscv64")
        assert "this machine is riscv64, but vllm has native code only for x86-64" in str(
            caught.value
        )
        assert "set VLLM_TARGET_DEVICE=empty" in str(caught.value)
    assert options.read(EMPTY, "linux", "riscv64").device == "empty"
    assert options.read({}, "darwin", "arm64").device == "empty"


@pytest.mark.parametrize("name", [b"\xff", b"a;b"])
def test_a_folder_that_cmake_does_not_support(tmp_path: Path, name: bytes) -> None:
    tree = copy_tree(Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)))
    done = call_hook(tree, "build_wheel(OUT)", tmp_path / "out", **EMPTY)
    assert done.returncode == 1
    assert f"error: the source tree is in {ascii(str(tree))[1:-1]}\n" in done.stderr
    assert "move or copy the tree" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_of_many_other_characters(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "a b$c#d&e'f(g)ü")
    assert built(tree, tmp_path / "out")[0].build.variant == "empty"
