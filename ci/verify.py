"""Rebuilds a published wheel from its commit, and compares the bits."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Optional
from urllib.parse import unquote, urlsplit

import httpx
from rich.console import Console

from ci import digest, git
from ci.errors import CiError
from ci.wheel import compare, reader, symbols
from ci.wheel.compare import Difference
from ci.wheel.reader import WheelFile


class VerifyError(CiError):
    """A wheel could not be downloaded or rebuilt."""


def symbols_beside(where: str, wheel: WheelFile, folder: Path) -> Optional[Path]:
    """Fetches the debug symbols that were published beside the wheel at `where`.

    None if its library has no build-id, or a local wheel has none beside it.
    """
    build_id = symbols.build_id_of(wheel.path)
    if build_id is None:
        return None
    name = symbols.name_of(build_id)
    if "://" in where:
        return fetch(f"{where.rpartition('/')[0]}/{name}", folder)
    beside = wheel.path.parent / name
    return beside if beside.is_file() else None


def fetch(where: str, folder: Path) -> Path:
    """Downloads the wheel at a URL to `folder`; returns a local path as it is."""
    if "://" not in where:
        return Path(where)
    target = folder / unquote(urlsplit(where).path).rsplit("/", 1)[-1]
    try:
        answer = httpx.get(where, follow_redirects=True, timeout=60).raise_for_status()
    except httpx.HTTPError as error:
        raise VerifyError(f"cannot download {where}: {error}") from error
    target.write_bytes(answer.content)
    return target


def verify(path: Path, repo: Path, folder: Path, console: Console) -> Optional[Difference]:
    """Rebuilds the wheel at `path` from its commit; returns the first difference, or None.

    repo: a repository with the commit. folder: for the clone and the new wheel.
    Raises BadWheel, GitError if the commit is missing, and VerifyError.
    """
    wheel = reader.read(path)
    commit, variant = wheel.build.commit, wheel.build.variant
    if commit is None or wheel.build.dirty or wheel.build.native_digest is None:
        raise VerifyError(
            f"{path.name} does not name a commit, or was not built by pinned compilers",
            means="it cannot be rebuilt",
        )
    console.print(f"rebuilding {path.name} from commit {commit}", soft_wrap=True)
    clone = folder / "clone"
    git.clone(repo, clone, commit)
    _check_tools(clone)
    label = f"{wheel.version}={wheel.tags[0]}"
    # By that commit's own code, in a separate process.
    command = [sys.executable, "-m", "ci", "build", "--variant", variant, "--label", label]
    _run(clone, *command, "--out", str(rebuilt(folder)))
    return compare.first_difference(path, rebuilt(folder) / path.name)


def rebuilt(folder: Path) -> Path:
    """The folder below `folder` with the rebuilt wheel and its debug symbols."""
    return folder / "rebuilt"


def are_rebuilt(published: Path, folder: Path) -> bool:
    """Whether published debug symbols equal those that `verify` built in `folder`."""
    made = [path.read_bytes() for path in rebuilt(folder).glob(symbols.name_of("*"))]
    return published.read_bytes() in made


def _check_tools(clone: Path) -> None:
    wanted = digest.program_versions(clone)
    found = {name: metadata.version(name) for name in wanted}
    if wanted != found:
        raise VerifyError(
            f"that commit needs {wanted}, but {found} are installed",
            means="other versions of compilers produce different bits",
            do="create an environment with that commit's pins: pip install -r requirements/ci.txt",
        )


def _run(cwd: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        words = (done.stderr or done.stdout).strip()
        raise VerifyError(f"`{' '.join(command)}` failed:\n{words}")
