"""Images and containers where there is no registry: the base image has next to nothing of its own.

What `python:slim` would have is mounted from this machine, read-only: /usr and an interpreter; and
the packages that vllm depends on, since torch alone would take a minute to install.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest

from ci.container import podman
from ci.container.podman import NoContainers

FOLDERS = ("dev", "etc", "home", "opt", "proc", "root", "sys", "usr")
LINKS = ("bin", "lib", "lib64", "sbin")  # into /usr, where Debian has them
ACCOUNTS = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": b"root:x:0:\n",
}
PACKAGES = "/opt/packages"  # of this machine, on PYTHONPATH: pip sees them as installed
# What must not come from this machine: the wheel under test, and the pip that installs it.
OWN = ("vllm", "_editable_skbc_vllm", "pip", "__pycache__")


class Podman:
    """podman on this machine, with a base image; skips where it starts no container."""

    def __init__(self, folder: Path) -> None:
        missing = [name for name in podman.PROGRAMS if shutil.which(name) is None]
        if missing:
            pytest.skip(f"no {', '.join(missing)} on this machine: make cibuildwheel installs them")
        self.environ = podman.prepare(folder / "settings")
        self.base = f"localhost/vllm-test-base:{uuid.uuid4().hex[:12]}"
        prefix = sys.base_prefix
        site = Path(sysconfig.get_path("purelib"))
        packages = folder / "packages"
        packages.mkdir()
        packages.chmod(0o755)  # pytest's folders are the owner's alone
        for path in site.iterdir():
            if not path.name.startswith(OWN):
                (packages / path.name).symlink_to(path)
        mounted = {"/usr": "/usr", str(packages): PACKAGES, str(site): str(site), prefix: prefix}
        self.mounts = [f"--volume={path}:{seen}:ro" for path, seen in mounted.items()]
        archive = folder / "base.tar"
        write_system(archive)
        path = f"ENV PATH={prefix}/bin:/usr/local/bin:/usr/bin:/usr/sbin:/bin"
        changes = [f"--change={path}", f"--change=ENV PYTHONPATH={PACKAGES}"]
        try:
            self.run("import", "--quiet", *changes, str(archive), self.base)
            # Also as another account, which a user namespace of one id does not have.
            user = ["--user=1000:1000", "--network=none"]
            self.run("run", "--rm", *user, *self.mounts, self.base, "python3", "--version")
        except NoContainers as error:
            pytest.skip(f"no container can be run here: {error}")

    def run(self, *words: str) -> str:
        """What ``podman …`` prints; it has to succeed."""
        return podman.run(self.environ, *words)

    def status(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess:
        """How ``podman …`` ended, whichever way."""
        return subprocess.run(
            ["podman", *words], env=self.environ, input=stdin, capture_output=True, text=True
        )

    @contextmanager
    def image(self, containerfile: Path, **arguments: str):
        """The name of what is built from a Containerfile and the base, removed in the end."""
        name = f"{self.base}-image"
        given = [f"--build-arg={key}={value}" for key, value in arguments.items()]
        words = [
            "--format=docker",
            "--file",
            str(containerfile),
            "--tag",
            name,
            *given,
            *self.mounts,
        ]
        try:
            self.run("build", "--quiet", f"--build-arg=PYTHON_IMAGE={self.base}", *words)
            yield name
        finally:
            self.status("rmi", "--force", name)

    @contextmanager
    def container(self, *words: str):
        """A running container without a network, removed in the end."""
        name = self.run("run", "--detach", "--network=none", *self.mounts, *words).strip()
        try:
            yield name
        finally:
            self.status("rm", "--force", "--time=0", "--volumes", name)

    def close(self) -> None:
        self.status("rmi", "--force", self.base)


def write_system(path: Path) -> None:
    """A file system into which /usr can be mounted, as a tar archive."""
    with tarfile.open(path, "w") as archive:
        for name in LINKS:
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
            archive.addfile(link)
        for name, mode in {**dict.fromkeys(FOLDERS, 0o755), "tmp": 0o1777}.items():
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            archive.addfile(folder)
        for name, data in ACCOUNTS.items():
            file = tarfile.TarInfo(name)
            file.size = len(data)
            archive.addfile(file, io.BytesIO(data))
