"""Processors and memory: of this process, and of processes in cgroups of both versions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ci.machine import THIS, Limits

GIB = 1 << 30


def write(root: Path, files: dict[str, object]) -> Limits:
    """A root file system with these files, as a process in it sees them."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{content}\n")
    return Limits(root)


def mount(kind: str, at: str, options: str = "rw", top: str = "/") -> str:
    return f"31 23 0:28 {top} {at} rw,nosuid - {kind} {kind} {options}"


def test_unreadable_files_set_no_limit(tmp_path: Path) -> None:
    """A mount whose name is no text, and files that are none or may not be read."""
    (tmp_path / "sys/fs/cgroup/memory.max").mkdir(parents=True)
    limits = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/",
            "proc/self/mountinfo": mount("cgroup2", "/sys/fs/cgroup"),
            "proc/meminfo": f"MemAvailable:   {GIB // 1024} kB",
        },
    )
    with (tmp_path / "proc/self/mountinfo").open("ab") as file:
        file.write(b"32 23 0:29 / /media/\xff rw - ext4 /dev/sda rw\n")
    assert limits.memory().count == GIB
    assert limits.processors().count >= 1


def test_version_2_and_every_group_around(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/user/build"
    limits = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/user/build",
            "proc/self/mountinfo": mount("cgroup2", "/sys/fs/cgroup"),
            "proc/meminfo": f"MemTotal: 9 kB\nMemAvailable:   {64 * GIB // 1024} kB",
            f"{group}/cpu.max": "max 100000",
            "sys/fs/cgroup/user/cpu.max": "100000 100000",
            f"{group}/memory.max": 6 * GIB,
            f"{group}/memory.current": 5 * GIB,
            f"{group}/memory.stat": f"anon 1\ninactive_file {3 * GIB}",
            "sys/fs/cgroup/user/memory.max": "max",
            "sys/fs/cgroup/user/memory.current": 5 * GIB,
        },
    )
    assert limits.processors().count == 1
    assert limits.processors().where == f"in the quota of {tmp_path}/sys/fs/cgroup/user"
    assert limits.memory().count == 4 * GIB  # the cache of files is given up
    assert limits.memory().where == f"in {tmp_path / group}"


def test_version_1_in_a_container_that_sees_its_group_at_the_top(tmp_path: Path) -> None:
    limits = write(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/docker/1a2b\n2:cpu,cpuacct:/docker/1a2b\n0::/",
            "proc/self/mountinfo": "\n".join(
                [
                    mount("tmpfs", "/sys/fs/cgroup"),
                    mount("cgroup", "/sys/fs/cgroup/cpu,cpuacct", "rw,cpu,cpuacct", "/docker/1a2b"),
                    mount("cgroup", "/sys/fs/cgroup/memory", "rw,memory", "/docker/1a2b"),
                ]
            ),
            "proc/meminfo": f"MemAvailable: {64 * GIB // 1024} kB",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": 150000,
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": 100000,
            "sys/fs/cgroup/memory/memory.limit_in_bytes": 2 * GIB,
            "sys/fs/cgroup/memory/memory.usage_in_bytes": GIB,
            "sys/fs/cgroup/memory/memory.stat": f"cache 5\ntotal_inactive_file {GIB // 2}",
        },
    )
    assert limits.processors().count == 1
    assert limits.memory().count == GIB + GIB // 2


def test_no_limit(tmp_path: Path) -> None:
    limits = write(
        tmp_path,
        {
            "proc/self/cgroup": "2:cpu:/\n4:memory:/a",
            "proc/self/mountinfo": "\n".join(
                [
                    mount("cgroup", "/sys/fs/cgroup/cpu", "rw,cpu"),
                    mount("cgroup", "/sys/fs/cgroup/memory", "rw,memory"),
                ]
            ),
            "proc/meminfo": "MemAvailable: 1024 kB",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": -1,
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": 100000,
            "sys/fs/cgroup/memory/a/memory.limit_in_bytes": 9223372036854771712,
            "sys/fs/cgroup/memory/a/memory.usage_in_bytes": GIB,
        },
    )
    assert limits.processors().count == len(os.sched_getaffinity(0))
    assert limits.memory().count == 1 << 20
    assert limits.memory().where == "on this machine"


def test_no_linux(tmp_path: Path) -> None:
    assert Limits(tmp_path).processors().count >= 1
    assert Limits(tmp_path).memory().count > 0


def test_this_process() -> None:
    assert 1 <= THIS.processors().count <= len(os.sched_getaffinity(0))
    assert 0 < THIS.memory().count <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor is all there is")
def test_the_affinity_is_counted() -> None:
    code = "from ci.machine import THIS; print(THIS.processors())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "Limit(count=1, where='in the affinity of this process')\n"
