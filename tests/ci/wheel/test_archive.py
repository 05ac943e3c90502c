"""The zip writer, read back by the standard library's zipfile."""

from __future__ import annotations

import hashlib
import io
import stat
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.wheel.archive import (
    FIRST_TIME,
    LAST_TIME,
    ArchiveError,
    Compressor,
    Member,
    pack,
)

TIME = 1_700_000_001  # odd: a zip counts in steps of two seconds

names = st.text(
    st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="\\:/"), min_size=1
)
members = st.lists(
    st.builds(Member, names, st.binary(max_size=2000)),
    unique_by=lambda member: member.name,
    max_size=8,
)


@given(members, st.integers(FIRST_TIME, LAST_TIME))
def test_what_is_written_is_read_back(written: list[Member], timestamp: int) -> None:
    archive = zipfile.ZipFile(io.BytesIO(pack(written, timestamp, Compressor())))
    assert archive.testzip() is None
    assert [info.filename for info in archive.infolist()] == [member.name for member in written]
    for info, member in zip(archive.infolist(), written):
        assert archive.read(info) == member.data
        assert info.external_attr >> 16 == stat.S_IFREG | 0o644


@given(members)
def test_the_bytes_depend_on_nothing_but_members_and_time(written: list[Member]) -> None:
    used = Compressor()
    pack(reversed(written), TIME, used)
    assert pack(written, TIME, used) == pack(written, TIME, Compressor())


def test_the_bytes_are_those_of_the_pinned_compressor() -> None:
    """A new libdeflate may pack otherwise: then every published wheel's bits would change."""
    data = pack([Member("a.txt", b"what compresses, compresses; " * 40)], TIME, Compressor())
    assert hashlib.sha256(data).hexdigest() == (
        "83d96f40ffcc5930a7715bc4abb9ee9508939dc9084046dead40c8ab737059b9"
    )


def test_time_is_utc_and_rounded_down_to_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    archive = zipfile.ZipFile(io.BytesIO(pack([Member("a", b"")], TIME, Compressor())))
    assert archive.getinfo("a").date_time == (2023, 11, 14, 22, 13, 20)


@pytest.mark.parametrize(
    ("timestamp", "year"), [(0, 1980), (-5, 1980), (10**12, 2107)], ids=["epoch", "before", "far"]
)
def test_a_time_that_a_zip_cannot_hold_is_clamped(timestamp: int, year: int) -> None:
    archive = zipfile.ZipFile(io.BytesIO(pack([Member("a", b"")], timestamp, Compressor())))
    assert archive.getinfo("a").date_time[0] == year


def test_what_does_not_shrink_is_stored() -> None:
    archive = zipfile.ZipFile(
        io.BytesIO(pack([Member("a", b"x"), Member("b", b"")], 0, Compressor()))
    )
    assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_two_members_of_one_name_are_refused() -> None:
    with pytest.raises(ArchiveError, match="two members are called a"):
        pack([Member("a", b"1"), Member("a", b"2")], 0, Compressor())
