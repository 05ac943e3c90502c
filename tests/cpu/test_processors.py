"""The processors that a control group leaves, from files as Linux shows them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cpu.conftest import CSRC

ALL = len(os.sched_getaffinity(0))

V2 = "0::/work/job\n"
V1 = "9:name=systemd:/job\n4:cpu,cpuacct:/job\n2:cpuset:/job\n0::/\n"


@pytest.fixture(scope="module")
def program(compile_cpp) -> Path:
    source = Path(__file__).with_name("print_processors.cpp")
    return compile_cpp([source, CSRC / "cpu/processors.cpp"], "-O1")


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        pytest.param("", {}, ALL, id="no control groups"),
        pytest.param(V2, {}, ALL, id="no quota"),
        pytest.param(V2, {"work/job/cpu.max": "max 100000"}, ALL, id="max"),
        pytest.param(V2, {"work/job/cpu.max": "100000 100000"}, 1, id="one"),
        pytest.param(V2, {"work/job/cpu.max": "30000 100000"}, 1, id="a part of one"),
        pytest.param(V2, {"work/job/cpu.max": "100001 100000"}, 2, id="rounded up"),
        pytest.param(V2, {"work/job/cpu.max": "99900000 100000"}, ALL, id="more than there are"),
        pytest.param(V2, {"work/cpu.max": "50000 50000"}, 1, id="of the group around it"),
        pytest.param(V2, {"cpu.max": "50000 50000"}, 1, id="of the container"),
        pytest.param(V2, {"work/job/cpu.max": "nonsense"}, ALL, id="nonsense"),
        pytest.param(V2, {"work/other/cpu.max": "50000 50000"}, ALL, id="of another group"),
        pytest.param(
            V1,
            {"cpu/job/cpu.cfs_quota_us": "50000", "cpu/job/cpu.cfs_period_us": "100000"},
            1,
            id="version 1",
        ),
        pytest.param(
            V1,
            {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"},
            1,
            id="version 1, of the container",
        ),
        pytest.param(
            V1,
            {"cpu/job/cpu.cfs_quota_us": "-1", "cpu/job/cpu.cfs_period_us": "100000"},
            ALL,
            id="version 1, no quota",
        ),
    ],
)
def test_quotas(groups, files, expected, program, tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        file = tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    done = subprocess.run([str(program), str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) == min(expected, ALL)
