"""Packed wheels, read back by libraries that are not ours."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
from packaging.utils import parse_wheel_filename
from packaging.version import Version

from ci.wheel import reader
from ci.wheel.archive import ArchiveError, Compressor, Member
from ci.wheel.pack import repack

TAG = "cp38-abi3-manylinux1_x86_64"
CASES = [
    ("0.5.4", TAG),
    ("0.5.4+cu118", TAG),
    ("0.5.5.dev12+g0123abcde.cu118", TAG),
    ("0.5.4+cu118", "cp310-cp310-manylinux1_x86_64"),
]


@pytest.mark.parametrize(("version", "tag"), CASES)
def test_every_place_says_the_same(write: Callable[..., Path], version: str, tag: str) -> None:
    path = write(version, tag)
    name, said, _, tags = parse_wheel_filename(path.name)
    assert (name, said, [str(tag) for tag in tags]) == ("vllm", Version(version), [tag])
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        distribution = PathDistribution(zipfile.Path(archive, f"vllm-{version}.dist-info/"))
        assert distribution.version == version
        assert distribution.metadata["Name"] == "vllm"
        assert f"Tag: {tag}\n" in (distribution.read_text("WHEEL") or "")
        # importlib.metadata reads RECORD by itself, and every row is of a member.
        files = distribution.files or []
        assert sorted(map(str, files)) == sorted(names)


def test_pip_and_uv_accept_a_packed_wheel(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write("0.5.4+cu118", "py3-none-any")
    for name, installer in {"pip": ["pip"], "uv": ["uv", "pip"]}.items():
        target = tmp_path / name
        options = ["--no-deps", "--no-index", "--quiet", "--target", str(target), str(path)]
        subprocess.run([sys.executable, "-m", *installer, "install", *options], check=True)
        installed = PathDistribution(target / "vllm-0.5.4+cu118.dist-info")
        assert installed.version == "0.5.4+cu118"
        assert (target / "vllm" / "__init__.py").is_file()


def test_the_other_files_stay_as_they_were(
    write: Callable[..., Path], members: list[Member]
) -> None:
    _, packed = reader.open_wheel(write("0.5.4"))
    mine = {member.name: member for member in packed if "dist-info" not in member.name}
    assert mine == {member.name: member for member in members if "dist-info" not in member.name}


def test_only_the_header_changes_and_not_a_line_of_the_description(
    write: Callable[..., Path],
) -> None:
    metadata = reader.read(write("0.5.4+cu118")).metadata.decode()
    assert "\nVersion: 0.5.4+cu118\n" in metadata
    assert "\nVersion: a line of the description that must stay\n" in metadata


def test_dist_info_comes_last_and_record_last_of_all(write: Callable[..., Path]) -> None:
    names = zipfile.ZipFile(write()).namelist()
    first = next(i for i, name in enumerate(names) if ".dist-info/" in name)
    assert all(".dist-info/" in name for name in names[first:])
    assert names[-1].endswith("/RECORD")


def test_packing_twice_and_from_a_packed_wheel_gives_the_same_bits(
    write: Callable[..., Path],
) -> None:
    direct = write("0.5.4+cu118").read_bytes()
    _, members = reader.open_wheel(write("0.5.5.dev1+gabc", "cp312-cp312-manylinux1_x86_64"))
    name, data = repack(
        members, version="0.5.4+cu118", tag=TAG, timestamp=1_700_000_000, compress=Compressor()
    )
    assert (name, data) == (f"vllm-0.5.4+cu118-{TAG}.whl", direct)


def test_metadata_without_a_version_is_refused() -> None:
    broken = [Member("vllm-0.dist-info/METADATA", b"Name: vllm\n\nVersion: 1\n")]
    with pytest.raises(ArchiveError, match="expected one Version line to change, found 0"):
        repack(broken, version="1", tag=TAG, timestamp=0, compress=Compressor())
