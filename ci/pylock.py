"""Lock files (PEP 751) of a wheel and its dependencies, torch included, with hashes.

The resolved dependencies of each variant and Python are stored in `requirements/locked/`, so that a
commit always has the same locks; `python -m ci lock` resolves them again. A publication adds the
commit's own wheels.
"""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Optional
from urllib.parse import unquote, urlsplit

import tomli_w
from packaging.markers import Marker
from packaging.tags import Tag
from packaging.utils import parse_wheel_filename

from ci import environment, names, toml
from ci.errors import CiError
from ci.matrix import Cuda

FOLDER = Path(__file__).parents[1] / "requirements" / "locked"
FILES = "https://files.pythonhosted.org"  # PyPI's files, also when a mirror was used
TORCH_INDEX = "https://download.pytorch.org/whl/"
MACHINES = ("x86_64", "aarch64")


class LockError(CiError):
    """Dependencies cannot be resolved, or a lock is invalid."""


def lock_name(variant: str, python: str) -> str:
    """``pylock.cu121-cp311.toml``: PEP 751 allows no dot in the middle part."""
    return f"pylock.{variant}-{names.python_tag(python)}.toml"


def constraints_name(variant: str) -> str:
    return f"constraints.{variant}.txt"


def requirements(pyproject: Path, cuda: Cuda) -> list[str]:
    """The requirements in METADATA of a variant's wheels."""
    (settings,) = toml.read(pyproject)["tool"]["dynamic-metadata"]
    return [f"torch{cuda.torch}", *settings["others"]]


def resolve(wanted: Sequence[str], python: str, options: Sequence[str] = ()) -> dict[str, Any]:
    """Resolves `wanted` for one Python on Linux, with uv and a registry.

    options: for uv, such as an index. Raises LockError with uv's message.
    """
    uv = str(Path(sys.executable).with_name("uv"))
    # A version without a wheel for this Python would be compiled at installation.
    binary = ["--only-binary", ":all:"]
    how = ["--quiet", "--universal", "--no-header", "--python-version", python, *binary]
    command = [uv, "pip", "compile", *how, "--format", "pylock.toml", *options, "-"]
    done = subprocess.run(
        command,
        input="\n".join(wanted),
        capture_output=True,
        text=True,
        env=environment.for_installing(),
        check=False,
    )
    if done.returncode:
        raise LockError(f"Python {python}: {done.stderr.strip()}")
    return narrow(toml.loads(done.stdout), python)


def narrow(resolved: Mapping[str, Any], python: str) -> dict[str, Any]:
    """A multi-platform lock, reduced to Linux, CPython `python` and our processors."""
    packages = []
    for package in resolved["packages"]:
        machines = [m for m in MACHINES if _applies(package.get("marker"), python, m)]
        if not machines:
            continue
        kept = {"name": package["name"], "version": package["version"]}
        if machines != list(MACHINES):
            kept["marker"] = f"platform_machine == '{machines[0]}'"
        wheels = [_file(w) for w in package.get("wheels", ()) if _fits(w, python, machines)]
        if not wheels:
            raise LockError(f"{package['name']} has no wheel for Python {python} on Linux")
        packages.append({**kept, "wheels": wheels})
    return {
        "lock-version": "1.0",
        "created-by": "vllm",
        "requires-python": f"=={python}.*",
        "environments": ["sys_platform == 'linux'"],
        "packages": packages,
    }


def with_wheels(
    locked: Mapping[str, Any], commit: str, version: str, wheels: Iterable[Mapping[str, Any]]
) -> bytes:
    """The lock file of a commit: `locked` with its own `wheels` (url, size, hashes) added."""
    whole = copy.deepcopy(dict(locked))
    own = {"name": names.PROJECT, "version": version, "wheels": list(wheels)}
    whole["packages"] = sorted([*whole["packages"], own], key=lambda package: package["name"])
    whole["tool"] = {names.PROJECT: {"commit": commit}}
    return dump(whole)


def constraints(locks: Mapping[str, Mapping[str, Any]]) -> bytes:
    """The same versions as a constraints file. `locks`: Python, such as ``3.11`` → lock."""
    lines = []
    for python, locked in locks.items():
        for package in locked["packages"]:
            markers = [f"python_version == '{python}'", package.get("marker")]
            marker = " and ".join(filter(None, markers))
            lines.append(f"{package['name']}=={package['version']} ; {marker}\n")
    return "".join(sorted(lines)).encode()


def read(variant: str, python: str, folder: Path = FOLDER) -> Optional[dict[str, Any]]:
    """The stored lock of a variant on one Python; None if it was not resolved."""
    path = folder / lock_name(variant, python)
    return toml.read(path) if path.is_file() else None


def dump(locked: Mapping[str, Any]) -> bytes:
    return tomli_w.dumps(locked).encode()


def _applies(marker: Optional[str], python: str, machine: str) -> bool:
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.99",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": machine,
        "platform_release": "",
        "platform_version": "",
        "extra": "",
    }
    return marker is None or Marker(marker).evaluate(environment)


def _fits(wheel: Mapping[str, Any], python: str, machines: Sequence[str]) -> bool:
    _, _, _, tags = parse_wheel_filename(_file_name(wheel))
    return any(_tag_fits(tag, python, machines) for tag in tags)


def _tag_fits(tag: Tag, python: str, machines: Sequence[str]) -> bool:
    wanted = tuple(map(int, python.split(".")))
    found = re.fullmatch(r"(cp|py)(\d)(\d*)", tag.interpreter)
    if found is None or (tag.platform != "any" and not _runs(tag.platform, machines)):
        return False
    version = (int(found[2]), int(found[3] or 0))
    if tag.abi == names.python_tag(python):
        return version == wanted
    if tag.abi == "abi3":
        return version <= wanted
    exact = found[1] == "cp" and bool(found[3])
    return tag.abi == "none" and (version == wanted if exact else version <= wanted)


def _runs(platform: str, machines: Sequence[str]) -> bool:
    return platform.startswith(("manylinux", "linux")) and platform.endswith(tuple(machines))


def _file_name(file: Mapping[str, Any]) -> str:
    return PurePosixPath(unquote(urlsplit(file.get("url") or file["path"]).path)).name


def _file(file: Mapping[str, Any]) -> dict[str, Any]:
    """A file of a package, with PyPI's URL if a mirror was used."""
    kept = {key: file[key] for key in ("size", "hashes") if key in file}
    if "path" in file:
        return {"path": file["path"], **kept}
    # PyPI's URLs contain the file's digest, and mirrors keep them.
    mirrored = re.search(r"/packages/[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{60}/[^/]+$", file["url"])
    return {"url": FILES + mirrored[0] if mirrored else file["url"], **kept}
