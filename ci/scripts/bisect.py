# /// script
# requires-python = ">=3.8"
# dependencies = []
# ///
"""Finds the first bad commit among the published wheels of vllm, in minutes and without compiling.

    uv run BASE/COMMIT/bisect.py --good COMMIT --bad COMMIT -- python test.py

Each commit's wheel is installed in a temporary environment on top of your current one, and the
command runs there. As in `git bisect run`, exit status 0 means good, 125 skip, 128 and above abort,
anything else bad. Run the same command line again to resume an interrupted search.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False):
    # Python searches the script's folder first, and `random` would import this file as bisect.
    del sys.path[0]

import argparse
import hashlib
import http.client
import json
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

# Filled in when this file is published: its address and commit.
BASE = "https://vllm-wheels.s3.us-west-2.amazonaws.com"
COMMIT = ""

SOURCE = "https://github.com/vllm-project/vllm"
GOOD, BAD, SKIP = "good", "bad", "skip"
CANNOT_JUDGE, STOP = 125, 128  # exit statuses with a meaning for git bisect run


class BisectError(Exception):
    """The search cannot continue; the message is for the user."""


class CannotTry(Exception):
    """One commit cannot be tested; the search continues with its neighbours."""


# The commits to search


def get_json(base: str, key: str) -> Optional[Dict[str, Any]]:
    """The JSON object at an address; None if it does not exist. Raises BisectError."""
    url = f"{base}/{key}"
    try:
        found = json.loads(download(url))
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise BisectError(f"{url} cannot be read: {error}") from error
    except ValueError as error:
        raise BisectError(f"{url} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise BisectError(f"{url} cannot be read: it is not a JSON object")
    return found


def download(url: str) -> bytes:
    """The content of an address. Raises HTTPError, and BisectError for a failed connection."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.read()  # type: ignore[no-any-return]
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise BisectError(f"{url} cannot be read: {error}") from error


def listed(base: str) -> List[Dict[str, Any]]:
    """The newest commits that have wheels, oldest first."""
    ledger = get_json(base, "state/nightlies.json")
    if ledger is None:
        raise BisectError(f"{base} lists no commits; is it the address of a bucket?")
    return list(reversed(ledger["units"]))


def find(base: str, units: List[Dict[str, Any]], name: str) -> Dict[str, Any]:
    """The unit of a commit, named by its hash or a prefix of it."""
    name = name.lower()
    found = [unit for unit in units if unit["commit"].startswith(name)]
    if len(name) >= 4 and len(found) == 1:
        return found[0]
    if found:
        raise BisectError(f"{name} is ambiguous: {len(found)} commits begin with it")
    manifest = get_json(base, f"{name}/manifest.json") if len(name) == 40 else None
    if manifest is not None:
        return manifest
    status = get_json(base, f"{name}/status.json") if len(name) == 40 else None
    why = f"{status['state']} {status['reason']}".rstrip() if status else "nobody built it"
    if len(name) < 40:
        why = "no listed commit begins with it; older ones need all 40 digits"
    raise BisectError(f"{name} has no wheels at {base}: {why}")


def between(
    base: str, units: List[Dict[str, Any]], good: Dict[str, Any], bad: Dict[str, Any]
) -> List[Dict[str, Any]]:
    """The commits with wheels in the history of `bad`, from `good` on, oldest first.

    Raises BisectError if `good` is not in that history.
    """
    if order(good) >= order(bad):
        raise BisectError(
            f"the good commit (number {good['number']}) is not older than the bad one "
            f"(number {bad['number']})"
        )
    newer = [unit for unit in units if order(unit) > order(good)]
    known = {unit["commit"]: unit for unit in [good, *newer, bad]}
    chain = [bad]
    while chain[0]["commit"] != good["commit"]:
        chain.insert(0, before(base, known, chain[0], good))
    return chain


def before(
    base: str, known: Dict[str, Dict[str, Any]], unit: Dict[str, Any], good: Dict[str, Any]
) -> Dict[str, Any]:
    """The nearest older commit with wheels: the parent, else the newest that may be an ancestor.

    known: the listed commits from `good` on; older ones are found through the parents in manifests.
    """
    parent = (unit.get("change") or {}).get("parent")
    if parent in known:
        return known[parent]
    # As new as the parent, but another commit: on another branch.
    limit = older_by_one(unit) if parent else order(unit)
    older = [each for each in known.values() if order(each) < limit]
    found = max(older, key=order) if older else None
    if parent and (found is None or found is good):
        found = get_json(base, f"{parent}/manifest.json") or found
    if found is None or (order(found) <= order(good) and found is not good):
        raise BisectError(
            f"{describe(good)}, named good, is not in the history of the bad commit: "
            "name a good one that is"
        )
    return found


def older_by_one(unit: Dict[str, Any]) -> Tuple[List[int], int]:
    """The `order` of the parent of a commit that is not the first of its release."""
    version, number = order(unit)
    return version, number - 1


def order(unit: Dict[str, Any]) -> Tuple[List[int], int]:
    """The sort key of commits: the number restarts with each release."""
    return [int(part) for part in unit["version"].split(".")], unit["number"]


def next_one(count: int, verdicts: Dict[int, str]) -> Optional[int]:
    """The place of the next of `count` commits to try, oldest first; None if the search is done.

    verdicts: place → verdict. Chooses the untested place nearest to the middle.
    """
    low, high = bounds(count, verdicts)
    open_ones = [place for place in range(low + 1, high) if place not in verdicts]
    middle = (low + high) / 2
    return min(open_ones, key=lambda place: abs(place - middle)) if open_ones else None


def bounds(count: int, verdicts: Dict[int, str]) -> Tuple[int, int]:
    """The newest good commit, and the oldest bad one after it."""
    bad = [place for place, said in verdicts.items() if said == BAD]
    high = min(bad) if bad else count - 1
    good = [place for place, said in verdicts.items() if said == GOOD and place < high]
    return (max(good) if good else 0), high


# Trying a commit


def wheel_of(unit: Dict[str, Any], variant: Optional[str]) -> Dict[str, Any]:
    """The development wheel for this machine and variant. Raises CannotTry."""
    fitting: List[Dict[str, Any]] = [
        file
        for file in unit["files"]
        if file["variant"] is not None
        and ".dev" in file["version"]
        and any(tag.endswith(f"_{platform.machine()}") for tag in file["tags"])
        and (file["variant"] == variant if variant else _is_default(file))
    ]
    if not fitting:
        raise CannotTry(f"no wheel for {platform.machine()}" + (f", {variant}" if variant else ""))
    return fitting[0]


def _is_default(file: Dict[str, Any]) -> bool:
    """Whether the version has no variant in it, so that this is the default variant."""
    return not file["version"].endswith(f".{file['variant']}")


def fetch(base: str, unit: Dict[str, Any], file: Dict[str, Any], folder: Path) -> Path:
    """Downloads a wheel to `folder`. Raises CannotTry if it was removed, else BisectError."""
    path = folder / str(file["name"])
    url = f"{base}/{unit['commit']}/{path.name.replace('+', '%2B')}"
    try:
        data = download(url)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            why = error.read().decode(errors="replace").strip()
            raise CannotTry(f"its wheel is gone: {why}") from error
        raise BisectError(f"{url}: {error}") from error
    if hashlib.sha256(data).hexdigest() != file["sha256"]:
        raise BisectError(f"the sha256 of {url} differs from its manifest")
    path.write_bytes(data)
    return path


# Prints the prefix of a Python, the folders of its packages, and those of their programs.
PACKAGES = """
import json, os, site, sys
packages, programs = site.getsitepackages(), [os.path.join(sys.prefix, "bin")]
if site.ENABLE_USER_SITE:  # pip install --user
    packages.append(site.getusersitepackages())
    programs.append(os.path.join(site.getuserbase(), "bin"))
print(json.dumps([sys.prefix, packages, programs]))
"""
# How a program of an environment begins that pip or uv installs at a path with spaces, or a long
# one: the kernel cannot start its Python. To Python the lines are a text.
START = """#!/bin/sh
'''exec' "{}" "$0" "$@"
' '''
"""
# Prints where `import vllm` looks, apart from the current folder.
ORIGIN = """
import importlib.util, sys
sys.path[:] = filter(None, sys.path)
print(importlib.util.find_spec("vllm").origin)
"""


class Environments:
    """Creates temporary environments that can import the packages of another one.

    python: of the other environment. isolated: use no other environment, and install the wheel's
    dependencies too. extra: more requirements to install.
    """

    def __init__(self, python: str, isolated: bool, extra: Sequence[str]) -> None:
        self.python, self.isolated, self.extra = python, isolated, list(extra)
        self.uv = os.environ.get("UV") or shutil.which("uv")

    def make(self, folder: Path, wheel: Path) -> Path:
        """Installs `wheel` in a new environment at `folder`.

        Raises CannotTry if the wheel cannot be installed, BisectError if the environment cannot.
        """
        if self.uv:
            _must([self.uv, "venv", "--quiet", "--python", self.python, str(folder)])
            install = [self.uv, "pip", "install", "--quiet", "--python", str(folder)]
        else:
            _must([self.python, "-m", "venv", str(folder)])
            install = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet"]
            install.append("--disable-pip-version-check")
        try:
            _must([*install, *([] if self.isolated else ["--no-deps"]), str(wheel)])
            if self.extra:
                _must([*install, *self.extra])
        except BisectError as error:
            raise CannotTry(str(error)) from error
        if not self.isolated:
            self._show_packages(folder)
        imported = _must([str(folder / "bin/python"), "-c", ORIGIN]).strip()
        if folder.resolve() not in Path(imported).resolve().parents:
            raise BisectError(
                f"the command would import {imported} instead of the wheel: remove its folder "
                "from PYTHONPATH"
            )
        return folder

    def _show_packages(self, folder: Path) -> None:
        """Adds the packages and programs of the other environment, after and beside its own."""
        site = "import sysconfig; print(sysconfig.get_path('purelib'))"
        own = Path(_must([str(folder / "bin/python"), "-c", site]).strip())
        prefix, theirs, programs = json.loads(_must([self.python, "-c", PACKAGES]))
        (own / "zz_seen_by_bisect.pth").write_text("".join(f"{path}\n" for path in theirs))
        for program in (each for path in programs for each in Path(path).glob("*")):
            target = folder / "bin" / program.name
            if target.exists() or not program.is_file():
                continue
            first, _, rest = program.read_bytes().partition(b"\n")
            python = f"{prefix}/bin/python".encode()
            by_sh = rest.startswith((b"'''exec' \"" + python, b"'''exec' '" + python))
            if first.startswith(b"#!" + python) or (first == b"#!/bin/sh" and by_sh):
                target.write_bytes(START.format(folder / "bin/python").encode() + rest)
                target.chmod(0o755)


def run_command(folder: Path, commit: str, command: Sequence[str]) -> int:
    """Runs the user's command with the environment at `folder` on PATH; returns its status."""
    path = f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    env = {**os.environ, "PATH": path, "VIRTUAL_ENV": str(folder), "VLLM_BISECT_COMMIT": commit}
    env.pop("PYTHONHOME", None)
    program = shutil.which(command[0], path=path)
    if program is None:
        raise BisectError(f"program {command[0]!r} was not found")
    code = subprocess.run([program, *command[1:]], env=env, check=False).returncode
    if code < 0 or code >= STOP:
        ended = f"signal {-code}" if code < 0 else f"status {code}"
        raise BisectError(
            f"the command ended with {ended}, which aborts the search, as in git bisect"
        )
    return code


def _must(command: Sequence[str]) -> str:
    """The output of a command. Raises BisectError if it fails."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError as error:
        raise BisectError(f"{command[0]} cannot be run: {error.strerror}") from error
    if done.returncode:
        raise BisectError(f"`{shlex.join(command)}` failed:\n{done.stdout.strip()}")
    return done.stdout


def persons_python() -> str:
    """The Python of the user's active environment, not of the one that `uv run` created."""
    active = os.environ.get("VIRTUAL_ENV")
    own = Path(sys.prefix).resolve()
    if active and Path(active).resolve() != own:
        return str(Path(active, "bin/python"))
    if not os.environ.get("UV"):  # uv sets it for programs that it runs
        return sys.executable
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        found = shutil.which("python3", path=folder) if folder else None
        if found and Path(folder).resolve().parent != own:
            return found
    return sys.executable


# Remembered verdicts


class Memory:
    """The verdicts of one search, kept in a file."""

    def __init__(self, key: Sequence[str], restart: bool) -> None:
        cache = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
        name = hashlib.sha256(json.dumps(list(key)).encode()).hexdigest()[:16]
        self.path = Path(cache, "vllm-bisect", f"{name}.json")
        self.said: Dict[str, List[str]] = {}  # commit → verdict, and why
        if self.path.exists() and not restart:
            try:
                self.said = json.loads(self.path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise BisectError(f"{self.path} is damaged: pass --restart") from error

    def keep(self, commit: str, verdict: str, why: str) -> None:
        self.said[commit] = [verdict, why]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(f".{os.getpid()}")
        unfinished.write_text(json.dumps(self.said, indent=1), encoding="utf-8")
        unfinished.replace(self.path)


# The search


class Search:
    """A bisection of `units`, from a good one to a bad one."""

    def __init__(
        self, args: argparse.Namespace, units: List[Dict[str, Any]], memory: Memory
    ) -> None:
        self.args, self.units, self.memory = args, units, memory
        self.environments = Environments(args.python, args.isolated, args.with_)
        self.tried = 0

    def verdict(self, place: int) -> str:
        """The verdict on a commit, from memory or by trying it."""
        unit = self.units[place]
        commit = unit["commit"]
        if commit in self.memory.said:
            verdict, why = self.memory.said[commit]
            say(f"{describe(unit)}: {verdict}{why} (from an earlier run)")
            return verdict
        say(f"{describe(unit)}: trying")
        started = time.monotonic()
        try:
            verdict, why = self._try(unit)
        except CannotTry as error:  # not remembered: it may succeed next time
            verdict, why = SKIP, f": {error}"
        else:
            self.memory.keep(commit, verdict, why)
        self.tried += 1
        say(f"{describe(unit)}: {verdict}{why} ({time.monotonic() - started:.1f} s)")
        return verdict

    def _try(self, unit: Dict[str, Any]) -> Tuple[str, str]:
        """The command's verdict, and why. Raises CannotTry."""
        with tempfile.TemporaryDirectory(prefix="vllm-bisect-") as name:
            folder = Path(name)
            file = wheel_of(unit, self.args.variant)
            wheel = fetch(self.args.base, unit, file, folder)
            made = self.environments.make(folder / "env", wheel)
            code = run_command(made, unit["commit"], self.args.judge)
        if code == CANNOT_JUDGE:
            return SKIP, f": the command ended with {CANNOT_JUDGE}"
        return (BAD, f" (status {code})") if code else (GOOD, "")

    def run(self) -> Dict[str, Any]:
        """The result: the first bad commit, or all candidates. Raises BisectError."""
        last = len(self.units) - 1
        verdicts = {0: GOOD, last: BAD}
        if not self.args.trust_ends:
            for place in (0, last):
                said = self.verdict(place)
                if said != verdicts[place]:
                    raise BisectError(
                        f"{describe(self.units[place])}, named {verdicts[place]}, is {said}: "
                        "correct --good or --bad (or pass --trust-ends)"
                    )
        while True:
            low, high = bounds(len(self.units), verdicts)
            following = next_one(len(self.units), verdicts)
            if following is None:
                return self._result(low, high)
            left = max(high - low - 1, 1)
            say(
                f"between {low} and {high} of {last}: {left} to go, about {left.bit_length()} steps"
            )
            verdicts[following] = self.verdict(following)

    def _result(self, low: int, high: int) -> Dict[str, Any]:
        return {
            "last_good": self.units[low],
            "candidates": self.units[low + 1 : high + 1],
            "tried": self.tried,
            "commits": len(self.units),
        }


def gaps(base: str, last_good: Dict[str, Any], suspects: List[Dict[str, Any]]) -> List[str]:
    """A line for each commit without wheels in the range of the suspects."""
    listing = get_json(base, "state/commits.json") or {"commits": []}
    known = {entry["number"]: entry for entry in listing["commits"]}
    lines = []
    for before, after in zip([last_good, *suspects], suspects):
        if before["version"] != after["version"]:
            continue  # the numbers restart
        for number in range(before["number"] + 1, after["number"]):
            entry = known.get(number)
            if entry is None:
                lines.append(f"number {number}: it was not built")
                continue
            words = f"{entry['state']} {entry['reason']}".rstrip()
            subject = entry.get("subject", "")
            lines.append(f"{entry['unit'][:12]} (number {number}) {subject}: {words}")
    return lines


def describe(unit: Dict[str, Any]) -> str:
    subject = (unit.get("change") or {}).get("subject", "")
    return f"{unit['commit'][:12]} (number {unit['number']}) {subject}".rstrip()


def report(base: str, result: Dict[str, Any]) -> str:
    """The result of a search as text."""
    suspects = result["candidates"]
    without = gaps(base, result["last_good"], suspects)
    lines = []
    if len(suspects) > 1:
        lines.append(f"The first bad commit is one of these {len(suspects)}; all but the last")
        lines.append("could not be tested:")
    else:
        lines.append("The first bad commit:" if not without else "The first commit found bad:")
    for unit in suspects:
        change = unit.get("change") or {}
        lines += ["", f"  {unit['commit']}", f"  {change.get('subject', '')}"]
        lines.append(
            f"  number {unit['number']}, of {unit['time']}; {SOURCE}/commit/{unit['commit']}"
        )
        if change:
            native = change["native"]
            lines.append(
                f"  {change['files']} {'file' if change['files'] == 1 else 'files'} changed"
                + (f", {native} of native code:" if native else ", none of native code")
            )
            lines += [f"    {name}" for name in change["native_files"]]
    if without:
        lines += ["", "These have no wheels, and may be the first bad commit as well:"]
        lines += [f"  {line}" for line in without]
    lines += ["", f"The last good one: {describe(result['last_good'])}"]
    lines.append(f"{result['tried']} of {result['commits']} commits were tried.")
    return "\n".join(lines)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--good", required=True, metavar="COMMIT", help="a commit that works")
    parser.add_argument(
        "--bad",
        default=COMMIT or None,
        required=not COMMIT,
        metavar="COMMIT",
        help="a commit that fails" + (" (default: this script's)" if COMMIT else ""),
    )
    parser.add_argument(
        "--base",
        default=BASE,
        metavar="URL",
        help="where wheels are published (default: %(default)s)",
    )
    parser.add_argument("--variant", help="a variant such as cu118 (default: the default variant)")
    parser.add_argument(
        "--python",
        metavar="PATH",
        help="Python whose packages the command can import (default: the active environment's)",
    )
    parser.add_argument(
        "--with",
        dest="with_",
        action="append",
        default=[],
        metavar="REQUIREMENT",
        help="also install this",
    )
    parser.add_argument(
        "--isolated",
        action="store_true",
        help="use no other environment, and install the dependencies of each wheel",
    )
    parser.add_argument(
        "--trust-ends", action="store_true", help="do not test --good and --bad first"
    )
    parser.add_argument(
        "--restart", action="store_true", help="forget the verdicts of earlier runs"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("judge", nargs="+", metavar="COMMAND", help="after --")


def run(args: argparse.Namespace) -> int:
    """Searches, and prints the result. Returns the exit status; raises BisectError."""
    args.base = args.base.rstrip("/")
    args.python = args.python or persons_python()
    units = listed(args.base)
    good, bad = find(args.base, units, args.good), find(args.base, units, args.bad)
    units = between(args.base, units, good, bad)
    say(f"{len(units)} commits with wheels from {describe(good)} to {describe(bad)}")
    key = [args.base, args.python, str(args.variant), str(args.isolated), *args.with_]
    memory = Memory([*key, "--", str(Path.cwd()), *args.judge], args.restart)
    result = Search(args, units, memory).run()
    print(json.dumps(result, indent=1) if args.json else report(args.base, result))
    return 0 if len(result["candidates"]) == 1 else 2  # as git bisect does if several remain


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="bisect.py", description=(__doc__ or "").split("\n")[0])
    configure(parser)
    try:
        return run(parser.parse_args(argv))
    except BisectError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: run the same command again to continue", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
