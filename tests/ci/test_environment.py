"""Which variables child processes get, checked with real pip and uv where these decide."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ci import environment
from ci.environment import for_installing, with_absolute_paths


def test_relative_paths_are_taken_from_one_folder(tmp_path: Path) -> None:
    given = {
        "PATH": "bin:/usr/bin:",
        "CUDA_HOME": "cuda",
        "PIP_FIND_LINKS": "wheels https://example.org/wheels file:///wheels",
        "PIP_CERT": "",
        "EDITOR": "vi",
    }
    assert with_absolute_paths(given, tmp_path) == {
        **given,
        "PATH": f"{tmp_path}/bin:/usr/bin:{tmp_path}",
        "CUDA_HOME": f"{tmp_path}/cuda",
        "PIP_FIND_LINKS": f"{tmp_path}/wheels https://example.org/wheels file:///wheels",
    }
    everything = dict.fromkeys(environment.PATHS, "x")
    assert with_absolute_paths(everything, tmp_path) == dict.fromkeys(everything, f"{tmp_path}/x")


def test_only_variables_for_reaching_packages_are_kept() -> None:
    wishes = {
        "PIP_USER": "1",
        "PIP_TARGET": "/t",
        "PIP_CONSTRAINT": "c.txt",
        "UV_SYSTEM_PYTHON": "1",
        "UV_OVERRIDE": "o.txt",
        "PYTHONPATH": "/p",
        "VIRTUAL_ENV": "/v",
    }
    reaching = {"PIP_INDEX_URL": "https://a", "UV_INDEX_URL": "https://a", "HOME": "/h"}
    found = for_installing({**wishes, **reaching, "http_proxy": "http://p", "no_proxy": "b"})
    assert found == {
        **reaching,
        "http_proxy": "http://p",
        "no_proxy": "b,127.0.0.1,localhost",
        "NO_PROXY": "127.0.0.1,localhost",
        "PIP_USER": "0",
        "PIP_REQUIRE_VIRTUALENV": "0",
    }


def test_no_proxy_applies_to_pips_own_proxy_too() -> None:
    found = for_installing({"PIP_PROXY": "http://p", "HTTPS_PROXY": "http://q"})
    assert "PIP_PROXY" not in found
    assert (found["http_proxy"], found["HTTPS_PROXY"]) == ("http://p", "http://q")
    assert "https_proxy" not in found


@contextmanager
def served(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that any pip installs."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "b"\nbackend-path = ["."]\n'
    )
    (folder / "b.py").write_text(
        "import zipfile\n"
        "def build_wheel(to, config_settings=None, metadata_directory=None):\n"
        "    name = 'thing-1-py3-none-any.whl'\n"
        "    with zipfile.ZipFile(f'{to}/{name}', 'w') as z:\n"
        "        info = 'thing-1.dist-info/'\n"
        "        z.writestr('thing.py', '')\n"
        "        about = 'Metadata-Version: 2.1\\nName: thing\\nVersion: 1\\n'\n"
        "        z.writestr(info + 'METADATA', about)\n"
        "        z.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nTag: py3-none-any\\n')\n"
        "        z.writestr(info + 'RECORD', '')\n"
        "    return name\n"
    )
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "-w", "out", "."]
    subprocess.run(command, cwd=folder, env=for_installing(), check=True, capture_output=True)
    (made,) = (folder / "out").iterdir()
    return made


STRANGE = {
    "ALL_PROXY": "http://127.0.0.1:9",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
    "PIP_DRY_RUN": "1",
    "PIP_NO_DEPS": "1",
    "PIP_PROXY": "http://127.0.0.1:9",
    "PIP_REQUIRE_VIRTUALENV": "1",
    "PIP_TARGET": "/nowhere/at/all",
    "PIP_USER": "1",
    "PYTHONHOME": "/nowhere",
    "PYTHONPATH": "/nowhere",
    "UV_NO_BINARY": "1",
    "UV_OVERRIDE": "/nowhere/overrides.txt",
    "UV_SYSTEM_PYTHON": "1",
}


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_an_installation_from_loopback_in_a_strange_environment(
    wheel: Path, tmp_path: Path, installer: str
) -> None:
    """Into a folder, as toolkits are, and over HTTP, as trials do."""
    config = tmp_path / "pip.conf"
    config.write_text("[install]\nuser = true\n")
    own = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PIP_CONFIG_FILE": str(config)}
    environ = for_installing({**own, **STRANGE})
    with served(wheel.parent) as base:
        command = [sys.executable, "-m", installer, *(["pip"] if installer == "uv" else [])]
        command += ["install", "--target", str(tmp_path / "site"), f"{base}/{wheel.name}"]
        done = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "thing.py").is_file()
