"""The real installers in separate environments, and the ways to host a bucket."""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ci import interpreters
from ci.serve import running
from ci.store import Store

UV = Path(sys.executable).with_name("uv")
NEWEST = f"{sys.version_info[0]}.{sys.version_info[1]}"


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    text: str


@dataclass(frozen=True)
class Tool:
    """An installer: pip on one Python, or uv."""

    name: str
    python: Path  # what its environments are made of
    pip: tuple[str, ...]  # `pip`, as a command that is told the environment; empty for uv
    home: Path  # its caches and configuration, empty at first

    def environment(self, folder: Path) -> Environment:
        """A fresh environment without anything in it."""
        _uv(self.home, "venv", "--quiet", "--python", str(self.python), str(folder))
        return Environment(self, folder)


@dataclass(frozen=True)
class Environment:
    """One environment, and the commands that a person types in it."""

    tool: Tool
    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin/python"

    def pip(self, *arguments: str) -> Ran:
        """`pip …`, or `uv pip …`, for this environment."""
        if self.tool.pip:
            command = [*self.tool.pip, "--python", str(self.python), *arguments]
        else:
            command = [str(UV), "--no-config", "pip", arguments[0]]
            command += ["--python", str(self.python), *arguments[1:]]
        return run(command, self.tool.home)

    def install(self, *arguments: str) -> str:
        """`pip install …`, which has to succeed; returns what it said."""
        ran = self.pip("install", *arguments)
        assert ran.code == 0, ran.text
        return ran.text

    def update(self, url: str) -> None:
        """The documented way to another build of the same version."""
        how = ("--force-reinstall", "--no-deps") if self.tool.pip else ("--reinstall",)
        self.install(*how, url)

    def vllm(self) -> tuple[str, str]:
        """The version and the commit of the vllm that is installed."""
        code = "import vllm; print(vllm.__version__, vllm.__commit__)"
        ran = run([str(self.python), "-c", code], self.tool.home)
        assert ran.code == 0, ran.text
        version, commit = ran.text.split()
        return version, commit

    def version_of(self, project: str) -> str | None:
        """The version of a project that is installed, if it is."""
        code = f"from importlib.metadata import version; print(version({project!r}))"
        ran = run([str(self.python), "-c", code], self.tool.home)
        return ran.text.strip() if ran.code == 0 else None


def run(command: list[str], home: Path, cwd: Path | None = None) -> Ran:
    """Runs a client without the machine's configuration: only the command counts."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "UV_", "VIRTUAL_ENV", "XDG_", "PYTHON"))
    }
    env = {**inherited, "HOME": str(home), "PIP_CONFIG_FILE": "/dev/null"}
    env["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"  # it would ask PyPI
    done = subprocess.run(
        command, env=env, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return Ran(done.returncode, done.stdout)


def _uv(home: Path, *arguments: str) -> None:
    ran = run([str(UV), "--no-config", *arguments], home)
    assert ran.code == 0, ran.text


@functools.cache
def seeded_pip(version: str, folder: Path) -> tuple[Path, tuple[str, ...]]:
    """The newest pip for a Python, in an environment of its own; needs a package registry."""
    python = interpreters.find([version])[version]
    if python is None:
        pytest.skip(f"no python{version} on this machine")
    made = folder / f"pip{version}"
    # As the person's machine is configured: this is the one step that needs a registry.
    subprocess.run([UV, "venv", "--quiet", "--seed", "--python", python, made], check=True)
    return python, (str(made / "bin/python"), "-m", "pip")


def old_pip(version: str, tools: Path, tmp_path: Path) -> Tool:
    """A pip of that version, on a Python that it still runs on; needs a package registry."""
    found = interpreters.find(["3.11", "3.10", "3.9"])
    python = next((path for path in found.values() if path is not None), None)
    if python is None:
        pytest.skip("no Python from 3.9 to 3.11 on this machine; newer ones lack what old pips use")
    made = tools / f"pip-{version}"
    if not made.exists():
        subprocess.run([UV, "venv", "--quiet", "--python", python, made], check=True)
        install = [UV, "pip", "install", "--quiet", "--python", made, f"pip=={version}"]
        subprocess.run(install, check=True)
    home = tmp_path / "home"
    home.mkdir()
    return Tool(f"pip {version}", python, (str(made / "bin/python"), "-m", "pip"), home)


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tools")


# Each installer and each way of hosting; of pip, which is slow, not every pair.
PAIRS = [("pip", "served"), ("pip on 3.8", "static"), ("uv", "served"), ("uv", "static")]

Host = Callable[[Store], AbstractContextManager[str]]


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Names of an installer and of a way of hosting."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def tool(pair: tuple[str, str], tools: Path, tmp_path: Path) -> Tool:
    """The newest pip, the newest for Python 3.8, or uv."""
    return make_tool(pair[0], tools, tmp_path)


@pytest.fixture
def host(pair: tuple[str, str]) -> Host:
    """`ci serve`, or a plain web server for the same folder."""
    if pair[1] == "served":
        return running
    return lambda store: plain_hosting(Path(store.name))


def make_tool(name: str, tools: Path, tmp_path: Path) -> Tool:
    home = tmp_path / "home"
    home.mkdir()
    if name == "uv":
        return Tool(name, Path(sys.executable), (), home)
    python, pip = seeded_pip("3.8" if name.endswith("3.8") else NEWEST, tools)
    return Tool(name, python, pip, home)


@contextmanager
def plain_hosting(folder: Path) -> Iterator[str]:
    """A folder served by a plain web server; yields its URL."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, directory=str(folder), **kwargs)  # type: ignore[arg-type]

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def stand_in_index(folder: Path, project: str, wheels: dict[str, bytes]) -> Path:
    """A simple index of one project, as plain files: file name → content."""
    page = folder / project
    page.mkdir(parents=True)
    for name, data in wheels.items():
        (page / name).write_bytes(data)
    links = "".join(f'<a href="{name.replace("+", "%2B")}">{name}</a>\n' for name in wheels)
    (page / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")
    return folder
