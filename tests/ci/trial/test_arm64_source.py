"""A source build on Arm; `make arm64-source` runs one, with the op tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.trial import arm64
from ci.trial.arm64_source import EmulatedMachine, check


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_a_kernel_without_emulation_in_namespaces_is_told(tmp_path: Path) -> None:
    machine = EmulatedMachine(tmp_path / "qemu", tmp_path)
    program(tmp_path, "unshare", "echo mount: permission denied >&2; exit 1")
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    with pytest.raises(arm64.NoEmulation, match="mount: permission denied") as caught:
        check(machine, environ)
    assert "Linux 6.7" in caught.value.means
    with pytest.raises(arm64.NoEmulation, match="unshare"):
        check(machine, {"PATH": str(tmp_path / "nothing")})


def test_the_environment_there_is_its_own(tmp_path: Path) -> None:
    words = EmulatedMachine(Path("/qemu"), tmp_path).command(["true"], {"A": "b"})
    assert words[-7:] == [
        "-C",
        "/vllm",
        "PATH=/usr/bin:/bin",
        "HOME=/tmp",
        "LC_ALL=C.UTF-8",
        "A=b",
        "true",
    ]
    assert words[words.index("/usr/bin/env") + 1] == "-i"
