"""Runs every command of docs/installation.md as written, if it can run here.

The blocks of a page run in order, in one shell per part, so that variables exported in a block
apply to the next. Only origins are replaced: the bucket's by that of a bucket served here, and
GitHub's by a clone of this tree (git's `insteadOf`).
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ci import digest, git, interpreters, matrix
from ci.publish import publish
from ci.serve import running
from ci.store import FolderStore
from ci.wheel import reader
from ci.wheel.archive import Compressor, Member
from ci.wheel.build_info import BuildInfo
from ci.wheel.pack import repack
from tests.backend.conftest import copy_tree
from tests.ci.support import repository
from tests.ci.support.clones import remove_slow_kernels
from tests.ci.support.stand_in_symbols import place_symbols
from tests.ci.support.wheels import Factory

ROOT = Path(__file__).parents[2]
PAGES = ["installation.md", "installation.zh.md"]
BUCKET = "https://vllm-wheels.s3.us-west-2.amazonaws.com"
RELEASES = "https://github.com/vllm-project/vllm/releases"
UV = Path(sys.executable).with_name("uv")

# Commands that a test must not or cannot run, by their first words.
NOT_HERE = {
    "conda create": "conda is a person's own installation; a virtual environment stands for it",
    "conda activate": "as above",
    "conda install ccache": "as above",
    "apt install ccache": "changes the machine; the Makefile does it for `make test`",
    "docker run": "needs a Docker engine, NVIDIA's registry and a GPU",
}
# Commands for a machine with one more thing than Python.
NEEDS = {
    "nvcc --version": "/usr/local/cuda/bin/nvcc",
    "${CUDA_HOME}/bin/nvcc": "/usr/local/cuda/bin/nvcc",
    "which ccache": "ccache",
}


def commands(page: str) -> list[str]:
    """The commands of a page in order, without their comments."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert all(line.startswith("$ ") for line in lines), "a console block shows commands only"
    typed = [re.sub(r"(^|\s)#\s.*", "", line[2:]).strip() for line in lines]
    return [command for command in typed if command]


COMMANDS = commands(PAGES[0])
FROM_SOURCE = next(i for i, command in enumerate(COMMANDS) if command.startswith("git clone"))


def can_run(command: str) -> bool:
    """Whether `command` can run here; a missing program is not an error of the page."""
    if any(command.startswith(words) for words in NOT_HERE):
        return False
    needed = [name for words, name in NEEDS.items() if command.startswith(words)]
    return all(shutil.which(name) for name in needed)


def test_both_languages_have_the_same_commands() -> None:
    assert commands(PAGES[1]) == COMMANDS


def test_every_command_that_is_not_run_here_is_in_the_page() -> None:
    for words in [*NOT_HERE, *NEEDS]:
        assert any(command.startswith(words) for command in COMMANDS), words


def test_the_readme_says_nothing_else() -> None:
    """Its commands are those of the page, except that for CUDA 11.8, which the page describes."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    install = text.partition("\n## Install\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^\$ (.*)$", install, re.MULTILINE)
    assert "pip install vllm" in lines
    for line in lines:
        assert "+cu118" in line or line in COMMANDS, line


@dataclass(frozen=True)
class Shell:
    """A terminal: exported variables and the current folder persist between commands."""

    environ: dict[str, str]
    state: Path

    def type(self, command: str) -> str:
        """Runs a command, which has to succeed; returns what it printed."""
        script = f'[ ! -f "{self.state}" ] || . "{self.state}"\n{command}\n'
        script += f'{{ export -p; echo "cd \'$PWD\'"; }} > "{self.state}"\n'
        done = subprocess.run(
            ["bash", "-e", "-c", script],
            env=self.environ,
            cwd=self.state.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout[-8000:]}"
        return done.stdout


MakeShell = Callable[..., Shell]


@pytest.fixture
def shell(tmp_path: Path) -> MakeShell:
    """Opens a terminal in which a fresh virtual environment of a Python is active."""

    def make(python: str, **environ: str) -> Shell:
        found = interpreters.find([python])[python]
        if found is None:
            pytest.skip(f"no python{python} on this machine")
        home, made = tmp_path / "home", tmp_path / "venv"
        home.mkdir()
        subprocess.run([UV, "venv", "--quiet", "--seed", "--python", found, made], check=True)
        path = f"{made / 'bin'}:{UV.parent}:{os.environ['PATH']}"
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("VLLM_", "CUDA_", "PYTHON", "TORCH_", "MAX_JOBS"))
        }
        own = {"HOME": str(home), "PATH": path, "VIRTUAL_ENV": str(made)}
        own["CCACHE_DIR"] = str(tmp_path / "ccache")
        return Shell({**inherited, **own, **environ}, tmp_path / "state.sh")

    return make


def installed(shell: Shell) -> tuple[str, str]:
    """The version and commit that `import vllm` finds."""
    code = "import vllm; print(vllm.__version__, vllm.__commit__)"
    version, commit = shell.type(f"(cd / && python -c '{code}')").split()[-2:]
    return version, commit


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A served bucket with two commits and the releases that the page names; the older commit."""
    folder = tmp_path_factory.mktemp("published")
    store = FolderStore(folder / "bucket", durable=False)
    known = matrix.load()
    today = Factory(folder / "wheels", known)
    old = dataclasses.replace(known, version="0.4.0", tag="v0.4.0")
    for made in (Factory(folder / "old", old), today):
        release = made.commit(0, made.matrix.version)
        publish(store, made.release(release), release, made.matrix, release=True)
    for number in (1, 2):
        commit = today.commit(number)
        publish(store, today.wheels(commit), commit, known)
    with running(store) as base:
        yield base, today.commit(1).sha


def test_wheels(bucket: tuple[str, str], shell: MakeShell) -> None:
    base, older = bucket
    newest = Factory(Path(), matrix.load()).commit(2).sha
    # No dependencies: torch alone is gigabytes. The release index stands for PyPI.
    here = shell("3.10", PIP_NO_DEPS="1", UV_NO_DEPS="1", PIP_INDEX_URL=f"{base}/whl/cu121/")
    nightly = f"{base}/nightly/vllm-0.5.4-cp38-abi3-manylinux1_x86_64.whl"
    found = []
    for command in COMMANDS[:FROM_SOURCE]:
        if not can_run(command):
            continue
        typed = command.replace(BUCKET, base).replace(RELEASES, f"{base}/releases")
        typed = typed.replace("VLLM_COMMIT=...", f"VLLM_COMMIT={older}")
        typed = re.sub(r"\bURL$", nightly, typed)
        is_update = "reinstall" in typed
        if "install" in typed and not is_update:
            here.type("pip uninstall --quiet --yes vllm")  # each is for a fresh environment
        here.type(typed)
        if "install" in typed:
            found.append(installed(here))
    assert found == [
        ("0.5.4", today_release()),
        ("0.4.0+cu118", old_release()),
        ("0.5.4", newest),
        ("0.5.4", older),
        ("0.5.4", newest),
        ("0.5.4", newest),
    ]


def today_release() -> str:
    return Factory(Path(), matrix.load()).commit(0, "0.5.4").sha


def old_release() -> str:
    return Factory(Path(), matrix.load()).commit(0, "0.4.0").sha


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler on this machine")
def test_from_source(shell: MakeShell, tmp_path: Path) -> None:
    origin = copy_tree(tmp_path / "origin")
    remove_slow_kernels(origin)
    repository.run(origin, "init", "-q")
    repository.run(origin, "add", "--all")
    sha = repository.commit(origin, "c")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    here = shell(
        version,
        # pip says nothing of a build that succeeds, unless it is asked.
        PIP_VERBOSE="1",
        # One architecture, and kernels of seconds: what each command does is the question, not how
        # long it takes.
        TORCH_CUDA_ARCH_LIST="8.0",
        GIT_CONFIG_COUNT="1",
        GIT_CONFIG_KEY_0=f"url.{origin.as_uri()}.insteadOf",
        GIT_CONFIG_VALUE_0="https://github.com/vllm-project/vllm.git",
    )
    # What vllm depends on is there already, torch too: as this environment has it.
    site = tmp_path / f"venv/lib/python{version}/site-packages"
    (site / "beside.pth").write_text(sysconfig.get_path("purelib") + "\n")
    store = FolderStore(tmp_path / "bucket", durable=False)
    with running(store) as base:
        for command in COMMANDS[FROM_SOURCE:]:
            if not can_run(command):
                continue
            if "USE_PRECOMPILED" in command:
                publish_native(store, tmp_path / "vllm", tmp_path)
                here.type(f"export VLLM_PRECOMPILED_WHEEL_LOCATION={base}")  # the bucket's origin
            said = here.type(command)
            for words, expected in SAID.items():
                if words in command:
                    assert expected in said, f"$ {command}\n{said[-8000:]}"
            if command.endswith("pip install -e ."):
                assert installed(here)[1] == sha
                here.type("unset VLLM_TARGET_DEVICE MAX_JOBS")  # they are of one section


# What builds say, by a part of their command.
SAID = {
    "VLLM_CUDA_VERSION=12.1": "NVRTC 12.1",
    "TORCH_CUDA_ARCH_LIST=": "8.0 9.0 9.0+PTX (TORCH_CUDA_ARCH_LIST)",
    "VLLM_TARGET_DEVICE=cpu": "device    cpu (VLLM_TARGET_DEVICE)",
    "VLLM_USE_PRECOMPILED=1": "native    cu121, sha256:",
}


def publish_native(store: FolderStore, clone: Path, folder: Path) -> None:
    """Publishes wheels of a clone with the native files that were built in it."""
    known, commit = matrix.load(), git.read(clone)
    wheels = []
    for made in Factory(folder / "wheels", known).wheels(commit):
        wheel, members = reader.open_wheel(made.path)
        cuda = known.variant(wheel.build.variant)
        native = digest.native_digest(clone, known, cuda)
        build = BuildInfo(commit.sha, cuda.version, False, native, cuda.variant)
        members = [member for member in members if not member.name.endswith("build.json")]
        members.append(Member("vllm-0.dist-info/build.json", build.render()))
        built = clone / "build" / "development"
        for path in (built / "_C.abi3.so", *(built / "kernels/cu121").rglob("*.cubin")):
            name = path.relative_to(built).as_posix().replace("cu121", cuda.variant)
            members.append(Member(f"vllm/{name}", path.read_bytes()))
        name, data = repack(
            members,
            version=wheel.version,
            tag=made.path.name.split("-", 2)[2][: -len(".whl")],
            timestamp=commit.time,
            compress=Compressor(),
        )
        path = folder / "native" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        place_symbols(path, (built / "_C.abi3.so").read_bytes())
        wheels.append(reader.read(path))
    publish(store, wheels, commit, known)
