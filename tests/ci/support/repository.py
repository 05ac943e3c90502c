"""git, as somebody else than whoever runs the tests, and without their configuration."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ENV = {
    **os.environ,
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_COMMITTER_DATE": "1700000000 +0100",
    "GIT_CONFIG_GLOBAL": os.devnull,
}


def run(repo: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(repo), *arguments], env=ENV, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit(repo: Path, message: str) -> str:
    run(repo, "commit", "-q", "--allow-empty", "-m", message)
    return run(repo, "rev-parse", "HEAD")
