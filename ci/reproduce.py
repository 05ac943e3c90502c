"""Builds one commit in environments that share nothing, and compares the wheels' bits.

The environments (`Place`) differ in folder, user, umask, time zone, number of jobs, host Python and
operating system, and share no variables, cache or build folder.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

from ci import environment, git, interpreters, scratch
from ci.builder.progress import Failed, run_quietly
from ci.errors import CiError
from ci.wheel import symbols

# A user that every Unix has and that owns no files.
OTHER_USER = "nobody"
SYSTEM = "/usr/bin/python3"
# Run in a clone, by a Python without packages.
BUILD = """\
set -e
"$PYTHON" -m venv "$HOME/venv"
"$HOME/venv/bin/python" -m pip install --quiet --require-hashes -r requirements/ci.txt
"$HOME/venv/bin/python" -m ci build
"""
SHARED = ("ZIG_", "UV_", "XDG_", "CCACHE_", "MAX_JOBS", "TZ")


class ReproduceError(CiError):
    """The commit could not be built in a place."""


@dataclass(frozen=True)
class Place:
    """Where and by whom a commit is built."""

    name: str
    folder: str  # of the clone, below a temporary one
    python: str  # "3.12", or SYSTEM
    user: str = ""
    umask: int = 0o022
    timezone: str = "UTC"
    jobs: str = ""
    image: str = ""  # of podman; empty for the host itself


@dataclass(frozen=True)
class Attempt:
    """The result of a place; `reason` says why nothing was built."""

    place: Place
    seconds: float = 0.0
    wheels: Optional[Mapping[str, str]] = None  # file (debug symbols too) → sha256, hex
    reason: str = ""


def places(image: str = "") -> list[Place]:
    """All places; the one in a container only if `image` is given."""
    found = [
        Place("host", "one/vllm", "3.9"),
        Place("host", "two", "3.12", umask=0o002, timezone="America/Lima", jobs="3"),
        # The system's Python, because another user may not read one in a home folder.
        Place("host", "a deeper/folder/it is", SYSTEM, OTHER_USER, 0o077, "Asia/Tokyo"),
    ]
    if image:
        found.append(Place("container", "c", "3.9", jobs="1", image=image))
    return found


def build(repo: Path, commit: str, place: Place, environ: Mapping[str, str]) -> Attempt:
    """Builds `commit` of `repo` at `place`, in a temporary folder.

    environ: how to reach registries and podman; variables that places would share are removed.
    Raises ReproduceError with the end of a failed build's output.
    """
    with scratch.folder("vllm-reproduce-") as root:
        root.chmod(0o755)
        clone, home = root / place.folder, root / f"home {place.name}".replace(" ", "-")
        git.clone(repo, clone, commit)
        home.mkdir()
        python = _find_python(place, environ)
        if python is None:
            return Attempt(
                place, reason=f"no python{place.python} that {place.user or 'we'} may run"
            )
        if place.user:
            _run(["chown", "-R", f"{place.user}:", str(root)], root, environ)
        start = time.monotonic()
        _run_build(place, clone, home, python, environ)
        seconds = time.monotonic() - start
        made = clone / "wheelhouse"
        files = sorted([*made.glob("*.whl"), *made.glob(symbols.name_of("*"))])
        digests = {
            path.relative_to(made).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
        }
        return Attempt(place, seconds, digests)


def differing(outcomes: Sequence[Attempt]) -> list[str]:
    """The wheels that differ between places, or that some places lack.

    Raises ReproduceError if there is nothing to compare.
    """
    made = [outcome.wheels for outcome in outcomes if outcome.wheels is not None]
    if len(made) < 2 or not any(made):
        raise ReproduceError(
            f"{len(made)} places built, {sum(map(len, made))} wheels in all",
            means="a comparison needs at least two places with wheels",
            do="see above why the others did not build",
        )
    names = {name for wheels in made for name in wheels}
    return sorted(name for name in names if len({wheels.get(name) for wheels in made}) > 1)


def as_json(outcome: Attempt) -> dict[str, Any]:
    """`outcome` as JSON data."""
    place = {key: value for key, value in asdict(outcome.place).items() if key != "umask"}
    record = {**place, "umask": f"{outcome.place.umask:03o}", "seconds": round(outcome.seconds, 1)}
    return {**record, "wheels": outcome.wheels, "reason": outcome.reason}


def _find_python(place: Place, environ: Mapping[str, str]) -> Optional[Path]:
    if place.image:
        return Path("python3")
    if place.python == SYSTEM:
        check = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 9))"
        done = subprocess.run([SYSTEM, "-I", "-c", check], capture_output=True, check=False)
        return None if done.returncode else Path(SYSTEM)
    return interpreters.find([place.python], environ)[place.python]


def _run_build(
    place: Place, clone: Path, home: Path, python: Path, given: Mapping[str, str]
) -> None:
    environ = {
        **{k: v for k, v in environment.for_installing(given).items() if not k.startswith(SHARED)},
        "HOME": str(home),
        "PIP_NO_CACHE_DIR": "1",
        "PYTHON": str(python),
        "TZ": place.timezone,
        "MAX_JOBS": place.jobs,
    }
    if place.image:
        _run(_in_container(place, clone, environ), clone, given)
        return
    _run(["sh", "-c", BUILD], clone, environ, umask=place.umask, user=place.user or None)


def _in_container(place: Place, clone: Path, environ: Mapping[str, str]) -> list[str]:
    variables = ("PYTHON", "TZ", "MAX_JOBS", "PIP_NO_CACHE_DIR")
    inside = [f"--env={name}={environ[name]}" for name in variables] + ["--env=HOME=/root"]
    mounted = [f"--volume={clone}:/{place.folder}", f"--workdir=/{place.folder}"]
    script = f"umask {place.umask:03o}; git config --global safe.directory '*'; {BUILD}"
    return ["podman", "run", "--rm", *inside, *mounted, place.image, "sh", "-c", script]


def _run(
    command: Sequence[str],
    cwd: Path,
    environ: Mapping[str, str],
    *,
    umask: int = -1,
    user: Optional[str] = None,
) -> None:
    groups: Optional[list[int]] = [] if user else None
    try:
        run_quietly(command, cwd, environ, umask=umask, user=user, extra_groups=groups)
    except Failed as error:
        last = "\n".join(error.output.splitlines()[-20:])
        raise ReproduceError(f"`{' '.join(command)}` failed:\n{last}") from error


def may_change_user() -> bool:
    """Whether this process may build as another user."""
    return os.geteuid() == 0
