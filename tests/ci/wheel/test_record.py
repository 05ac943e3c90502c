"""RECORD, against the standard library's reading of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.wheel import record
from ci.wheel.archive import Member

names = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1)


@given(st.lists(st.builds(Member, names, st.binary()), unique_by=lambda member: member.name))
def test_rows_survive_writing_and_reading(members: list[Member]) -> None:
    entries = record.parse(record.render(members, "own"))
    assert entries == [
        *(
            record.Entry(member.name, record.digest(member.data), str(len(member.data)))
            for member in members
        ),
        record.Entry("own", "", ""),
    ]


def test_a_hash_is_written_as_pep_376_has_it() -> None:
    # Of the empty file, from the examples of the wheel specification's tools.
    assert record.digest(b"") == "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"


def test_a_row_of_other_than_three_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="line 2 has 2 columns"):
        record.parse(b"a,sha256=x,1\nb,2\n")


def test_rows_are_written_the_same_everywhere() -> None:
    """A published wheel is compared bit for bit with the next build of its commit."""
    empty = record.digest(b"")
    assert record.render([Member("a,b", b"")], "own") == f'"a,b",{empty},0\nown,,\n'.encode()
