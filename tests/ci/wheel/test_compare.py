"""Comparing wheels."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ci.wheel import compare
from ci.wheel.archive import Compressor, Member
from ci.wheel.compare import Difference, SizeChange
from ci.wheel.pack import repack

TAG = "cp38-abi3-manylinux1_x86_64"
CUBIN = "vllm/kernels/cu121/sm_80/norm.cubin"


@pytest.fixture
def pack(tmp_path: Path, members: list[Member]) -> Callable[..., Path]:
    """Writes the sample wheel with some members changed (None: left out)."""

    def pack(folder: str, *, timestamp: int = 0, **changes: bytes | None) -> Path:
        named = {"library": "vllm/_C.abi3.so", "cubin": CUBIN, "extra": "vllm/extra.py"}
        contents = {member.name: member.data for member in members}
        for key, data in changes.items():
            contents.pop(named[key], None)
            if data is not None:
                contents[named[key]] = data
        changed = [Member(name, data) for name, data in contents.items()]
        name, data = repack(
            changed, version="0.5.4", tag=TAG, timestamp=timestamp, compress=Compressor()
        )
        path = tmp_path / folder / name
        path.parent.mkdir()
        path.write_bytes(data)
        return path

    return pack


def test_the_same(pack: Callable[..., Path]) -> None:
    assert compare.first_difference(pack("a"), pack("b")) is None


def test_the_first_byte_of_the_first_member_is_named(pack: Callable[..., Path]) -> None:
    content = bytearray(bytes(range(256)) * 16)
    content[300] ^= 0xFF
    found = compare.first_difference(pack("a"), pack("b", cubin=bytes(content)))
    assert found is not None
    assert (found.member, found.byte) == (CUBIN, 300)
    assert str(found).startswith(f"{CUBIN} at byte 300: 2c 2d 2e")
    assert "in the first, d3 2d 2e" in str(found)


def test_a_longer_member_differs_at_its_end(pack: Callable[..., Path]) -> None:
    longer = bytes(range(256)) * 16 + b"x"
    found = compare.first_difference(pack("a"), pack("b", cubin=longer))
    assert found == Difference(CUBIN, 4096, "the end in the first, 78 in the second")


@pytest.mark.parametrize(("swap", "what"), [(False, "second"), (True, "first")])
def test_a_member_that_only_one_has(pack: Callable[..., Path], swap: bool, what: str) -> None:
    pair = [pack("a"), pack("b", extra=b"")]
    found = compare.first_difference(*(reversed(pair) if swap else pair))
    assert found is not None
    assert "vllm/extra.py" in str(found) or "RECORD" in str(found)
    if found.member == "vllm/extra.py":
        assert found.what == f"is only in the {what}"


def test_archives_of_the_same_members_can_differ_too(pack: Callable[..., Path]) -> None:
    found = compare.first_difference(pack("a"), pack("b", timestamp=10**9))
    assert found is not None
    assert found.member == ""
    assert found.byte == 10  # of the first local header: the time


def test_sizes_by_member_and_arch(pack: Callable[..., Path], tmp_path: Path) -> None:
    before = pack("a")
    after = pack("b", cubin=None, extra=b"x" * 5000)
    changes = compare.sizes(before, after)
    assert {change.name for change in changes if change.before is None} == {"vllm/extra.py"}
    plain = CUBIN.replace("cu121/", "")
    (gone,) = (change for change in changes if change.after is None)
    assert gone.name == plain
    assert gone.delta == -(gone.before or 0) < 0
    assert compare.by_arch(changes) == {"sm_80": SizeChange("sm_80", gone.before, 0)}


def test_wheels_of_two_versions_compare_dist_info_with_dist_info(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    one = shutil.copy(write("0.5.4"), tmp_path / "a.whl")
    changes = compare.sizes(Path(one), write("0.5.4+cu118"))
    assert all(change.before is not None and change.after is not None for change in changes)
