"""Ceph's radosgw on loopback: one monitor and one OSD in memory, for as long as a block runs.

    apt-get install --no-install-recommends radosgw ceph-mon ceph-osd ceph-common

By hand: ``python -m tests.ci.support.radosgw`` prints what to export, and ends with Enter.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.ports import free_port

PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "ceph-authtool")
ACCESS, SECRET = "AKIATESTS", "not-to-be-shown"
_PATIENCE = 120  # seconds, for each of the programs to come up

_CONFIG = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 2000
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
keyring = {folder}/keyring
[mon]
mon data = {folder}/mon
mon cluster log file = {folder}/cluster.log
[osd]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 1073741824
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{rgw}
"""
_CAPS = ("--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *")


def missing() -> list[str]:
    """The programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@dataclass
class _Cluster:
    folder: Path

    def run(self, *command: str) -> str:
        done = subprocess.run(
            [*command, "-c", str(self.folder / "ceph.conf")],
            cwd=self.folder,
            check=True,
            timeout=_PATIENCE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        return done.stdout

    @contextmanager
    def started(self, *command: str) -> Iterator[None]:
        """Runs a daemon in the foreground while the block runs."""
        with subprocess.Popen(
            [*command, "-f", "-c", str(self.folder / "ceph.conf")],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                yield
            finally:
                process.kill()


@contextmanager
def radosgw() -> Iterator[str]:
    """The URL of a new, empty radosgw, which knows ACCESS and SECRET."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory)))
        cluster = _Cluster(folder)
        port = _configure(cluster)
        stack.enter_context(cluster.started("ceph-mon", "-i", "a"))
        osd = str(uuid.uuid4())
        number = cluster.run("ceph", "osd", "new", osd).strip()
        cluster.run("ceph-osd", "-i", number, "--mkfs", "--osd-uuid", osd)
        stack.enter_context(cluster.started("ceph-osd", "-i", number))
        cluster.run("radosgw-admin", "user", "create", "--uid", "tests", "--display-name", "tests",
                    "--access-key", ACCESS, "--secret-key", SECRET)  # fmt: skip
        stack.enter_context(cluster.started("radosgw", "-n", "client.rgw"))
        url = f"http://127.0.0.1:{port}"
        _wait_for(url)
        yield url


def _configure(cluster: _Cluster) -> int:
    """Writes the configuration, the keys and the monitor's store; returns radosgw's port."""
    folder, fsid = cluster.folder, str(uuid.uuid4())
    mon, rgw = free_port(), free_port()
    config = _CONFIG.format(fsid=fsid, folder=folder, mon=mon, rgw=rgw)
    (folder / "ceph.conf").write_text(config)
    (folder / "mon").mkdir()
    (folder / "osd").mkdir()
    cluster.run("ceph-authtool", "--create-keyring", "keyring")
    for name in ("mon.", "client.admin", "osd.0", "client.rgw"):
        cluster.run("ceph-authtool", "keyring", "--gen-key", "-n", name, *_CAPS)
    address = f"127.0.0.1:{mon}"
    cluster.run("monmaptool", "--create", "--fsid", fsid, "--add", "a", address, "monmap")
    cluster.run("ceph-mon", "-i", "a", "--mkfs", "--monmap", "monmap", "--keyring", "keyring")
    return rgw


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            httpx.get(url)
            return
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


if __name__ == "__main__":
    with radosgw() as address:
        print(f"export AWS_ENDPOINT_URL={address}")
        print(f"export AWS_ACCESS_KEY_ID={ACCESS} AWS_SECRET_ACCESS_KEY={SECRET}")
        print("export AWS_DEFAULT_REGION=default")
        input("Enter ends it. ")
