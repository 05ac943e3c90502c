# /// script
# requires-python = ">=3.8"
# dependencies = []
# ///
"""Chooses the vllm wheel of a commit that fits this machine, and prints why and how to install it.

    uv run BASE/COMMIT/install.py           prints the command
    uv run BASE/COMMIT/install.py --run     runs it

It looks at the driver, the GPUs, glibc, and the target environment's Python and torch. Without
--run it changes nothing.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False):
    # Python searches the script's folder first, where bisect.py may be.
    del sys.path[0]

import argparse
import ctypes
import http.client
import json
import os
import re
import shlex
import shutil
import subprocess
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

# Filled in when this file is published: its address and commit.
BASE = "https://vllm-wheels.s3.us-west-2.amazonaws.com"
COMMIT = ""

TORCH_INDEX = "https://download.pytorch.org/whl/"  # for CUDA versions whose torch PyPI lacks
# From 2.11 on, PyPI's torch is for CUDA 13, without code for V100; it needs Python 3.10.
OLDER_TORCH, NEWER_TORCH_PYTHON = "torch<2.11", (3, 10)
# From cuda.h.
COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR = 75, 76


class InstallError(Exception):
    """No wheel can be installed; the message says why and what to do."""


# This machine


@dataclass(frozen=True)
class Gpu:
    """A GPU, as reported by its driver."""

    name: str
    capability: Tuple[int, int]


@dataclass(frozen=True)
class Machine:
    """Everything that the choice and the command depend on; None for what is missing."""

    processor: str  # "x86_64"
    glibc: Optional[Tuple[int, ...]]
    implementation: str  # "cpython"
    python: Tuple[int, ...]  # of the target environment
    free_threaded: bool
    driver: Optional[Tuple[int, int]]  # the newest CUDA that the driver supports
    gpus: Tuple[Gpu, ...]
    torch: Optional[str]  # "2.13.0+cpu"
    vllm: Optional[str]  # the installed version
    system: str = "Linux"
    has_pip: bool = True
    is_managed: bool = False  # by the system's package manager, which forbids pip (PEP 668)


IDENTITY = """
import sys
if sys.path[0] == "":
    del sys.path[0]  # the current folder, which may have a json.py
import json, os, platform, sysconfig
from importlib.util import find_spec
try:
    from importlib.metadata import version, PackageNotFoundError
except ImportError:
    raise SystemExit("Python %d.%d is too old" % sys.version_info[:2])
def find(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None
libc, libc_version = platform.libc_ver()
in_environment = sys.prefix != sys.base_prefix
marker = os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
print(json.dumps({
    "system": platform.system(),
    "has_pip": find_spec("pip") is not None,
    "is_managed": not in_environment and os.path.exists(marker),
    "implementation": sys.implementation.name,
    "python": sys.version_info[:2],
    "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "processor": platform.machine() + ("" if sys.maxsize > 2**32 else " in 32-bit mode"),
    "glibc": libc_version if libc == "glibc" else None,
    "torch": find("torch"),
    "vllm": find("vllm"),
}))
"""


def look(python: str) -> Machine:
    """Examines this machine and the environment of `python`. Raises InstallError if that fails."""
    try:
        done = subprocess.run([python, "-c", IDENTITY], capture_output=True, text=True, check=False)
    except OSError as error:  # no such file, or not executable
        raise InstallError(f"{python} cannot be used: {error.strerror}") from error
    if done.returncode:
        raise InstallError(f"{python} cannot be used: {done.stderr.strip() or done.stdout.strip()}")
    found = json.loads(done.stdout)
    driver, gpus = look_at_gpus()
    return Machine(
        processor=found["processor"],
        glibc=numbers(found["glibc"]) if found["glibc"] else None,
        implementation=found["implementation"],
        python=tuple(found["python"]),
        free_threaded=found["free_threaded"],
        driver=driver,
        gpus=gpus,
        torch=found["torch"],
        vllm=found["vllm"],
        system=found["system"],
        has_pip=found["has_pip"],
        is_managed=found["is_managed"],
    )


def look_at_gpus() -> Tuple[Optional[Tuple[int, int]], Tuple[Gpu, ...]]:
    """The CUDA version of the driver, and its GPUs; (None, ()) without a driver."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None, ()
    version, count = ctypes.c_int(), ctypes.c_int()
    if cuda.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return None, ()
    driver = (version.value // 1000, version.value % 1000 // 10)
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return driver, ()
    gpus = []
    for index in range(count.value):
        device, name = ctypes.c_int(), ctypes.create_string_buffer(100)
        cuda.cuDeviceGet(ctypes.byref(device), index)
        cuda.cuDeviceGetName(name, len(name), device)
        capability = []
        for attribute in (COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR):
            value = ctypes.c_int()
            cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
            capability.append(value.value)
        gpus.append(Gpu(name.value.decode(errors="replace"), (capability[0], capability[1])))
    return driver, tuple(gpus)


# Which wheel fits


def misfits(machine: Machine, file: Dict[str, Any], variant: Dict[str, Any]) -> List[str]:
    """The reasons why a wheel does not fit this machine; empty if it does.

    file, variant: entries of the manifest: a file, and its variant.
    """
    found = []
    variant = as_in(file, variant)
    if not any(_installs(machine, tag) for tag in file["tags"]):
        found.append(f"its tags are {', '.join(file['tags'])}; {describe_python(machine)}")
    cuda = numbers(variant["cuda"])
    if machine.driver is not None and machine.driver[0] < cuda[0]:
        found.append(f"the driver is of CUDA {dotted(machine.driver)}, older than {cuda[0]}.0")
    for gpu in machine.gpus:
        if code_for(gpu.capability, variant, machine.driver) is None:
            archs = " ".join(variant["archs"])
            found.append(
                f"no code for {gpu.name} ({dotted(gpu.capability)}): it has {archs}, and PTX that "
                "needs a newer driver or GPU"
            )
    if machine.torch is not None and not meets(machine.torch, variant["torch"]):
        found.append(f"torch {machine.torch} is installed, and it needs torch{variant['torch']}")
    return found


def as_in(file: Dict[str, Any], variant: Dict[str, Any]) -> Dict[str, Any]:
    """The variant with the GPU code of one wheel: wheels for Arm have other architectures."""
    code = variant.get("others", {}).get(file["tags"][0].split("-")[2], {})
    return {**variant, **code}


def code_for(
    capability: Tuple[int, int], variant: Dict[str, Any], driver: Optional[Tuple[int, int]]
) -> Optional[str]:
    """The code that a GPU runs: the nearest cubin of its major version, else PTX; None if neither.

    A suffix restricts it: `a` to exactly that capability, `f` to its major from its minor on.
    """
    fitting = []
    for arch in variant["archs"]:
        major, minor, suffix = split_arch(arch)
        binds = suffix == "a" and minor != capability[1]
        if major == capability[0] and minor <= capability[1] and not binds:
            fitting.append((minor, suffix == "a", arch))
    if fitting:
        return str(max(fitting)[2])
    ptx = [arch for arch in variant["ptx"] if split_arch(arch)[:2] <= capability]
    # The driver compiles PTX, and must support the PTX version of the compiler that made it.
    if ptx and driver is not None and driver >= numbers(variant["cuda"]):
        return f"PTX {max(ptx, key=split_arch)}"
    return None


def _installs(machine: Machine, tag: str) -> bool:
    python, abi, platforms = tag.split("-")
    if machine.implementation != "cpython" or machine.free_threaded:
        return False
    wanted = (int(python[2]), int(python[3:]))
    if wanted > machine.python or (abi != "abi3" and wanted != machine.python):
        return False
    return any(_runs(machine, platform_tag) for platform_tag in platforms.split("."))


OLD_NAMES = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}


def _runs(machine: Machine, platform_tag: str) -> bool:
    match = re.fullmatch(r"(manylinux1|manylinux20\d\d|manylinux_(\d+)_(\d+))_(\w+)", platform_tag)
    if match is None or machine.glibc is None or match[4] != machine.processor:
        return False
    needed = OLD_NAMES.get(match[1]) or (int(match[2]), int(match[3]))
    return machine.glibc >= needed


@dataclass(frozen=True)
class Choice:
    """The wheel to install, and the findings for each variant."""

    file: Optional[Dict[str, Any]]
    variant: str
    reasons: Dict[str, List[str]]  # variant → why it does not fit


def choose(machine: Machine, manifest: Dict[str, Any], only: Optional[str] = None) -> Choice:
    """The first variant that fits: the default one, then newer CUDA before older."""
    variants = manifest["variants"]
    if only is not None and only not in variants:
        raise InstallError(f"there is no variant {only}; there are {', '.join(sorted(variants))}")

    def rank(name: str) -> Tuple[bool, List[int]]:
        variant = variants[name]
        return not variant["default"], [-part for part in numbers(variant["cuda"])]

    reasons: Dict[str, List[str]] = {}
    for name in sorted([only] if only else variants, key=rank):
        files = [
            file
            for file in manifest["files"]
            if file["variant"] == name and ".dev" not in file["version"]
        ]
        tried = [(misfits(machine, file, variants[name]), file) for file in files]
        fitting = [file for why, file in tried if not why]
        if fitting:
            return Choice(fitting[0], name, reasons)
        # The reasons of the wheel for this machine, if there is one, and not of the others.
        near = [why for why, file in tried if any(_installs(machine, t) for t in file["tags"])]
        others = near or [why for why, _ in tried]
        reasons[name] = min(others, key=len, default=["it has no wheel"])
    return Choice(None, "", reasons)


# The command and the explanation


def command_for(
    machine: Machine, base: str, manifest: Dict[str, Any], choice: Choice, python: str, pip: bool
) -> List[str]:
    """The command that installs the chosen wheel in the environment of `python`."""
    assert choice.file is not None
    url = f"{base}/{manifest['commit']}/{choice.file['name']}"
    command = [python, "-m", "pip", "install"]
    update = ["--force-reinstall", "--no-deps"]
    if has_uv() and not pip:
        command, update = (
            ["uv", "pip", "install", "--python", python],
            ["--reinstall-package", "vllm"],
        )
    if machine.vllm is not None:  # an installer would keep a wheel of the same version
        command += update
    command.append(url)
    is_default = manifest["variants"][choice.variant]["default"]
    if machine.torch is None and newer_torch_fails(machine, is_default):
        command.append(OLDER_TORCH)
    if machine.torch is None and not is_default:
        command += ["--extra-index-url", TORCH_INDEX + choice.variant]
    return command


def has_uv() -> bool:
    return bool(os.environ.get("UV") or shutil.which("uv"))


def newer_torch_fails(machine: Machine, is_default: bool) -> Optional[str]:
    """Why the installed torch, or the one that comes with the wheel, fails here; None if it works.

    is_default: whether the wheel is of the default variant, whose torch comes from PyPI.
    """
    if not machine.gpus or machine.driver is None:
        return None
    if machine.torch is None:
        is_newer, local = machine.python >= NEWER_TORCH_PYTHON, "" if is_default else "other"
    else:
        is_newer = not meets(machine.torch, OLDER_TORCH[len("torch") :])
        local = machine.torch.partition("+")[2]
    if not is_newer:
        return None
    if any(gpu.capability < (7, 5) for gpu in machine.gpus):
        return "torch has no code for this GPU since 2.11"
    cuda = re.match(r"cu(\d\d)", local or "cu130")
    if cuda and machine.driver[0] < int(cuda[1]):
        return f"torch since 2.11 is for CUDA {cuda[1]}, newer than this driver's"
    return None


def explain(machine: Machine, manifest: Dict[str, Any], choice: Choice, pip: bool = False) -> str:
    """The findings on this machine and for each variant, as text. `pip`: of `command_for`."""
    lines = [
        f"python   {describe_python(machine)}",
        f"driver   {f'CUDA {dotted(machine.driver)}' if machine.driver else 'none found'}",
        *(
            f"GPU      {gpu.name}, compute capability {dotted(gpu.capability)}"
            for gpu in machine.gpus
        ),
        *(["GPU      none found"] if not machine.gpus else []),
        f"torch    {machine.torch or 'not installed'}",
        *([f"vllm     {machine.vllm} is installed, and will be replaced"] if machine.vllm else []),
        "",
    ]
    for name, why in choice.reasons.items():
        lines += [f"{name}    does not fit: {reason}" for reason in why]
    if choice.file is not None:
        variant = as_in(choice.file, manifest["variants"][choice.variant])
        codes = [
            f"{code_for(gpu.capability, variant, machine.driver)} for {gpu.name}"
            for gpu in dict.fromkeys(machine.gpus)
        ]
        lines.append(f"{choice.variant}    fits{': ' if codes else ''}{', '.join(codes)}")
        lines.append(f"wheel    {choice.file['name']}, {choice.file['size'] / 1e6:.2f} MB")
    is_default = not choice.variant or manifest["variants"][choice.variant]["default"]
    lines += [f"note     {note}" for note in notes(machine, is_default, pip or not has_uv())]
    return "\n".join(lines)


def notes(machine: Machine, is_default: bool = True, by_pip: bool = True) -> List[str]:
    """What to know before the command is run."""
    found = []
    if machine.is_managed:
        found.append(
            "this Python belongs to the system, which refuses packages: create an environment, "
            "python3 -m venv ENV, and add --python ENV/bin/python"
        )
    if by_pip and not machine.has_pip:
        found.append("this environment has no pip: add it by python -m ensurepip, or install uv")
    if machine.driver is None:
        found.append("there is no NVIDIA driver: the library will run on the CPU")
    why = newer_torch_fails(machine, is_default)
    if why is not None:
        found.append(f'{why}: also install "{OLDER_TORCH}"')
    if machine.torch and "+cpu" in machine.torch and machine.gpus:
        found.append(f"torch {machine.torch} does not use the GPU: install one with CUDA")
    return found


def describe_python(machine: Machine) -> str:
    threads = ", free-threaded (which has no limited API)" if machine.free_threaded else ""
    libc = f"glibc {dotted(machine.glibc)}" if machine.glibc else "no glibc (musl?)"
    if machine.system != "Linux":
        libc = machine.system
    return (
        f"{machine.implementation} {dotted(machine.python)}{threads}, {machine.processor}, {libc}"
    )


def split_arch(arch: str) -> Tuple[int, int, str]:
    """(9, 0, "a") of "9.0a"."""
    major, _, rest = arch.partition(".")
    digits = rest.rstrip("abcdefghijklmnopqrstuvwxyz")
    return int(major), int(digits), rest[len(digits) :]


def numbers(version: str) -> Tuple[int, ...]:
    """(2, 13, 0) of "2.13.0+cpu" and of "2.13.0a1"."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def meets(version: str, specifier: str) -> bool:
    """Whether a version matches a comma-separated specifier of >= and <, as in METADATA."""
    found = numbers(version)
    for part in filter(None, specifier.split(",")):
        match = re.fullmatch(r"(>=|<)([\d.]+)", part)
        if match is None:
            raise InstallError(f"the manifest's specifier {specifier!r} is not understood")
        bound = numbers(match[2])
        length = max(len(found), len(bound))
        ours, theirs = (t + (0,) * (length - len(t)) for t in (found, bound))
        if (ours < theirs) == (match[1] == ">="):
            return False
    return True


def dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def get_manifest(base: str, commit: str) -> Dict[str, Any]:
    """The manifest of a commit. Raises InstallError, saying why the commit has none."""
    manifest = get_json(f"{base}/{commit}/manifest.json")
    if manifest is None:
        status = get_json(f"{base}/{commit}/status.json") or {}
        why = f"{status.get('state', 'nobody built it')} {status.get('reason', '')}".rstrip()
        raise InstallError(f"commit {commit} has no wheels at {base}: {why}")
    return manifest


def get_json(url: str) -> Optional[Dict[str, Any]]:
    """The JSON object at an address; None if it does not exist. Raises InstallError."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            found = json.loads(answer.read())
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise InstallError(f"{url} cannot be read: {error}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise InstallError(f"{url} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise InstallError(f"{url} cannot be read: it is not a JSON object")
    return found


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


def run(args: argparse.Namespace) -> int:
    base, python = args.base.rstrip("/"), args.python or persons_python()
    machine, manifest = look(python), get_manifest(base, args.commit)
    choice = choose(machine, manifest, args.variant)
    command = None
    if choice.file is not None:
        command = command_for(machine, base, manifest, choice, python, args.pip)
    if args.json:
        found = {"machine": asdict(machine), **asdict(choice), "command": command}
        print(json.dumps(found, indent=1))
    else:
        print(explain(machine, manifest, choice, args.pip), file=sys.stderr)
        print(file=sys.stderr)
        if command:
            print(shlex.join(command), flush=True)
    if command is None:
        print(
            "no wheel of this commit fits; docs/installation.md explains how to build from source",
            file=sys.stderr,
        )
        return 1
    if not args.run:
        return 0
    if command[0] == "uv":
        command[0] = os.environ.get("UV") or "uv"
    return subprocess.run(command, check=False).returncode


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="install.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--commit",
        default=COMMIT or None,
        required=not COMMIT,
        metavar="COMMIT",
        help="the commit to install" + (" (default: this script's)" if COMMIT else ""),
    )
    parser.add_argument(
        "--base",
        default=BASE,
        metavar="URL",
        help="where wheels are published (default: %(default)s)",
    )
    parser.add_argument("--variant", help="only this variant, such as cu118")
    parser.add_argument(
        "--python",
        metavar="PATH",
        help="Python of the target environment (default: the active one's)",
    )
    parser.add_argument("--pip", action="store_true", help="use pip even if uv is installed")
    parser.add_argument("--run", action="store_true", help="also run the command")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    try:
        return run(parser.parse_args(argv))
    except InstallError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
