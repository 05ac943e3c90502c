"""Runs git: without the caller's GIT_DIR and the like, which would lead to another repository."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Optional

from ci.errors import CiError

# Files that the user's own ignore list names would be compiled all the same; and no fsmonitor
# daemon.
OWN_SETTINGS = ("-c", "core.excludesFile=/dev/null", "-c", "core.fsmonitor=false")


class GitError(CiError):
    """git is missing, or this is not a checkout that a build can be named after."""


def typed(repo: Path) -> str:
    """How a command of git on `repo` begins where a person types it: `git -C FOLDER`."""
    return f"git -C {quote(str(repo))}"


def ask(repo: Path, *arguments: str, fails: Optional[GitError] = None) -> str:
    """The output of git, less the final newline. Raises `fails`, or GitError with its message."""
    return os.fsdecode(output(repo, arguments, fails)).rstrip("\n")


def output(
    repo: Path,
    arguments: tuple[str, ...],
    fails: Optional[GitError] = None,
    given: bytes = b"",
) -> bytes:
    """What git prints, to which `given` is sent. Raises like `ask`."""
    command = ["git", "-C", str(repo), *OWN_SETTINGS, *arguments]
    try:
        done = subprocess.run(
            command, env=_environment(), input=given, capture_output=True, check=False
        )
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise GitError(
            "git is not on PATH" if missing else f"git cannot be run: {error}",
            means="the commit for the wheels cannot be read",
            do="install git (Debian, Ubuntu: apt-get install git)",
        ) from error
    if done.returncode == 0:
        return done.stdout
    words = os.fsdecode(done.stderr).strip()
    if "dubious ownership" in words:
        raise GitError(
            f"{repo} belongs to another user, and git does not read it",
            means="a repository's settings can run programs, so git only trusts this user's own",
            do="if you trust it: git config --global --add safe.directory "
            + quote(str(repo.resolve())),
        )
    raise fails or GitError(f"`{' '.join(command)}` failed: {words}")


def _environment(given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for git: no variable that names a repository, and messages in English.

    GIT_CONFIG_* stays, like the user's configuration: it may set safe.directory, and does not
    change the output of plumbing commands.
    """
    kept = {
        name: value
        for name, value in given.items()
        if not name.startswith("GIT_") or name.startswith("GIT_CONFIG_")
    }
    own = {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_REPLACE_OBJECTS": "1"}
    return {**kept, **own}
