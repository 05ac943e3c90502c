"""Memory that is free, within the limits of control groups of both versions."""

from __future__ import annotations

import pytest

from vllm.worker.memory import free_memory

GIB = 1 << 30
V1 = "31 25 0:27 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
V2 = "30 24 0:26 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"


@pytest.fixture
def machine(tmp_path):
    """machine(cgroup, mountinfo, files, available): a root with these files below."""

    def make(cgroup="", mountinfo="", files=None, available=64):
        meminfo = f"MemTotal: 1 kB\nMemAvailable:   {available << 20} kB\n"
        written = {
            "proc/meminfo": meminfo if available else "MemTotal: 1 kB\n",
            "proc/self/cgroup": cgroup,
            "proc/self/mountinfo": mountinfo,
            **(files or {}),
        }
        for name, text in written.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(text))
        return tmp_path

    return make


def test_without_groups_it_is_what_the_kernel_says(machine):
    assert free_memory(machine()) == 64 * GIB


def test_where_nothing_is_known_nothing_is_said(tmp_path):
    assert free_memory(tmp_path) is None


def test_version_2(machine):
    group = "sys/fs/cgroup/a/b"
    files = {
        f"{group}/memory.max": f"{5 * GIB}\n",
        f"{group}/memory.current": f"{3 * GIB}\n",
        f"{group}/memory.stat": f"anon 5\ninactive_file {GIB}\n",
        "sys/fs/cgroup/a/memory.max": "max\n",
        "sys/fs/cgroup/a/memory.current": f"{9 * GIB}\n",
    }
    assert free_memory(machine("0::/a/b\n", V2.format(root="/"), files)) == 3 * GIB


def test_an_outer_group_may_be_the_narrowest(machine):
    files = {
        "sys/fs/cgroup/a/b/memory.max": f"{50 * GIB}\n",
        "sys/fs/cgroup/a/b/memory.current": "0\n",
        "sys/fs/cgroup/a/memory.max": f"{2 * GIB}\n",
        "sys/fs/cgroup/a/memory.current": f"{GIB}\n",
    }
    assert free_memory(machine("0::/a/b\n", V2.format(root="/"), files)) == GIB


def test_version_1(machine):
    group = "sys/fs/cgroup/memory/job"
    files = {
        f"{group}/memory.limit_in_bytes": f"{4 * GIB}\n",
        f"{group}/memory.usage_in_bytes": f"{3 * GIB}\n",
        f"{group}/memory.stat": f"inactive_file 1\ntotal_inactive_file {GIB // 2}\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n",
    }
    found = free_memory(machine("4:memory:/job\n0::/\n", V1.format(root="/"), files))
    assert found == GIB + GIB // 2


def test_a_container_sees_its_group_at_the_top(machine):
    files = {
        "sys/fs/cgroup/memory.max": f"{3 * GIB}\n",
        "sys/fs/cgroup/memory.current": f"{GIB}\n",
    }
    root = machine("0::/outside/job\n", V2.format(root="/outside/job"), files)
    assert free_memory(root) == 2 * GIB


def test_a_group_over_its_limit_has_nothing_left(machine):
    files = {
        "sys/fs/cgroup/memory.max": f"{GIB}\n",
        "sys/fs/cgroup/memory.current": f"{2 * GIB}\n",
    }
    assert free_memory(machine("0::/\n", V2.format(root="/"), files)) == 0


def test_this_machine_has_memory():
    found = free_memory()
    assert found is not None
    assert 1 << 20 < found < 1 << 50
