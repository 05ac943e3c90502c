"""Places to build at, and the comparison; `make reproducible` builds at all of them."""

from __future__ import annotations

import pytest

from ci import reproduce
from ci.reproduce import Attempt, Place, ReproduceError


def test_the_places_have_nothing_in_common() -> None:
    found = reproduce.places("an image")
    for name in ("folder", "python", "timezone"):
        values = [getattr(place, name) for place in found if not place.image]
        assert len(set(values)) == len(values), name
    assert {"3.9", "3.12"} <= {place.python for place in found}
    assert len({place.umask for place in found}) > 2
    assert len({place.jobs for place in found}) > 2
    assert {place.user for place in found} == {"", "nobody"}
    assert [place for place in reproduce.places() if place.image] == []


def outcome(**wheels: str) -> Attempt:
    return Attempt(Place("host", "folder", "3.9"), 1.0, wheels)


def test_a_wheel_that_differs_or_is_missing_is_named() -> None:
    not_built = Attempt(Place("container", "c", "3.9"), reason="no podman")
    assert reproduce.differing([outcome(a="1", b="2"), not_built, outcome(a="1", b="2")]) == []
    assert reproduce.differing([outcome(a="1", b="2"), outcome(a="1", b="3")]) == ["b"]
    assert reproduce.differing([outcome(a="1", b="2"), outcome(a="1")]) == ["b"]


def test_nothing_to_compare_is_an_error() -> None:
    not_built = Attempt(Place("container", "c", "3.9"), reason="no podman")
    for outcomes in ([], [not_built], [outcome(a="1"), not_built], [outcome(), outcome()]):
        with pytest.raises(ReproduceError, match="at least two places"):
            reproduce.differing(outcomes)


def test_a_record_says_where_and_what() -> None:
    record = reproduce.as_json(outcome(a="1"))
    assert (record["umask"], record["python"], record["wheels"]) == ("022", "3.9", {"a": "1"})
