"""Changes of ledgers, the nightly and yanks."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.index import records
from ci.index.fields import BadRecord, Unreadable
from ci.index.manifest import ListedVariant
from ci.index.records import RECENT, Commits, CommitStatus, Ledger, Nightly, State, Yanked
from ci.matrix import Matrix
from tests.ci.index.conftest import make_unit

VARIANTS = {"cu118": ListedVariant(False), "cu121": ListedVariant(True)}


def status(number: int, state: State = State.COMPLETE) -> CommitStatus:
    time = f"2026-11-05T{number // 60:02}:{number % 60:02}:00Z"
    return CommitStatus(f"{number:040x}", number, time, state, "", time)


@given(order=st.permutations(range(1, 7)))
def test_a_ledger_is_the_same_whatever_the_order_of_its_making(
    the_matrix: Matrix, order: list[int]
) -> None:
    ledger = Ledger()
    for number in order:
        ledger = ledger.with_unit(make_unit(the_matrix, number), VARIANTS, None)
    assert [unit.number for unit in ledger.units] == [6, 5, 4, 3, 2, 1]
    assert ledger.serial == 6


def test_a_ledger_keeps_the_newest(the_matrix: Matrix) -> None:
    ledger = Ledger()
    for number in (1, 2, 3):
        ledger = ledger.with_unit(make_unit(the_matrix, number), VARIANTS, 2)
    assert [unit.number for unit in ledger.units] == [3, 2]
    assert ledger.with_unit(make_unit(the_matrix, 1), VARIANTS, 2) is ledger
    assert ledger.with_unit(make_unit(the_matrix, 3), VARIANTS, 2) is ledger


def test_a_serial_rises_with_every_change_and_never_comes_back(the_matrix: Matrix) -> None:
    unit = make_unit(the_matrix)
    ledger = Ledger().with_unit(unit, VARIANTS, None)
    back = ledger.without(unit.name).with_unit(unit, VARIANTS, None)
    assert back.units == ledger.units
    assert back.serial > ledger.serial
    yanked = Yanked().saying("v0.5.4", "bad")
    again = yanked.saying("v0.5.4", None).saying("v0.5.4", "bad")
    assert yanked.reason("v0.5.4") == again.reason("v0.5.4") == "bad"
    assert again.serial("v0.5.4") > yanked.serial("v0.5.4")
    assert yanked.saying("v0.5.4", "bad") is yanked


def test_a_variant_that_was_ever_listed_keeps_its_page(the_matrix: Matrix) -> None:
    ledger = Ledger().with_unit(
        make_unit(the_matrix, 1), {**VARIANTS, "cu102": ListedVariant(False)}, 1
    )
    ledger = ledger.with_unit(make_unit(the_matrix, 2), VARIANTS, 1)
    assert set(ledger.variants) == {"cu102", "cu118", "cu121"}


def test_a_nightly_is_overtaken_by_what_is_newer_than_any_before(the_matrix: Matrix) -> None:
    old, middle, new = (make_unit(the_matrix, number) for number in (1, 2, 3))
    nightly = Nightly().moved_to(new, VARIANTS).moved_to(old, VARIANTS)
    assert nightly.unit == old
    assert not nightly.is_overtaken_by(middle)
    assert not nightly.is_overtaken_by(new)
    assert nightly.is_overtaken_by(make_unit(the_matrix, 4))
    next_release = dataclasses.replace(middle, version="0.6")
    assert nightly.is_overtaken_by(next_release)


def test_the_listing_keeps_the_newest_commits_only() -> None:
    commits = Commits()
    for number in range(RECENT + 10):
        commits = commits.with_status(status(number))
    assert [one.number for one in commits.commits] == list(range(RECENT + 9, 9, -1))
    assert commits.with_status(status(3)) is commits


WITH_DOCS = True


@pytest.mark.parametrize(
    ("old", "new", "follows"),
    [
        ((State.PENDING, False), (State.FAILED, False), True),
        ((State.FAILED, False), (State.COMPLETE, False), True),
        ((State.COMPLETE, False), (State.PENDING, False), False),
        ((State.COMPLETE, False), (State.FAILED, False), False),
        ((State.COMPLETE, False), (State.COMPLETE, WITH_DOCS), True),
        ((State.COMPLETE, WITH_DOCS), (State.COMPLETE, WITH_DOCS), True),
        ((State.COMPLETE, WITH_DOCS), (State.COMPLETE, False), False),
        ((State.COMPLETE, WITH_DOCS), (State.PRUNED, False), True),
        ((State.PRUNED, False), (State.COMPLETE, False), False),
        ((State.PRUNED, False), (State.PENDING, False), True),
    ],
)
def test_later_news_of_a_commit_is_kept_whatever_comes_last(
    old: tuple[State, bool], new: tuple[State, bool], follows: bool
) -> None:
    before, after = (dataclasses.replace(status(1, state), docs=docs) for state, docs in (old, new))
    assert after.follows(None)
    assert after.follows(before) is follows
    commits = Commits().with_status(status(2)).with_status(before)
    changed = commits.with_status(after)
    assert changed.commits == (status(2), after if follows else before)
    assert changed.serial == commits.serial + (follows and after != before)
    assert (changed is commits) is not (follows and after != before)


def test_nightly_has_copies_of_the_released_versions(the_matrix: Matrix) -> None:
    assert Nightly().aliased == ()
    unit = make_unit(the_matrix)
    sdist = dataclasses.replace(unit.files[0], name="vllm-0.5.4.tar.gz", variant=None, tags=())
    unit = dataclasses.replace(unit, files=(*unit.files, sdist))
    listed = {
        cuda.variant: ListedVariant(cuda.default, cuda.on_request) for cuda in the_matrix.cudas
    }
    nightly = Nightly().moved_to(unit, listed)
    assert sorted(file.version for file in nightly.aliased) == ["0.5.4", "0.5.4+cu118"]
    assert nightly.moved_to(unit, listed) is nightly


def test_the_default_of_a_ledger_is_the_variant_that_says_so(the_matrix: Matrix) -> None:
    assert Ledger().default == ""
    ledger = Ledger.of_one(make_unit(the_matrix), VARIANTS)
    assert (ledger.default, ledger.serial, len(ledger.units)) == ("cu121", 0, 1)


def test_a_new_variant_alone_is_a_change(the_matrix: Matrix) -> None:
    unit = make_unit(the_matrix)
    ledger = Ledger().with_unit(unit, {}, None)
    assert ledger.with_unit(unit, VARIANTS, None).serial == ledger.serial + 1


def test_every_record_comes_back_as_it_was_written(the_matrix: Matrix) -> None:
    unit = make_unit(the_matrix)
    ledger = Ledger().with_unit(unit, VARIANTS, None)
    written = [
        (records.NIGHTLIES, ledger),
        (records.NIGHTLY, Nightly().moved_to(unit, VARIANTS)),
        (records.COMMITS, Commits().with_status(status(1, State.PRUNED))),
        (records.YANKED, Yanked().saying("v0.5.4", "bad").saying(unit.name, None)),
        (records.status(unit.name), dataclasses.replace(status(1), pinned="mine")),
    ]
    for record, value in written:
        assert record.parse(record.dump(value), "somewhere") == value


@pytest.mark.parametrize(
    "edit",
    [
        {"state": "fine"},
        {"state": "pending\n"},
        {"reason": "two\nlines"},
        {"reason": "x" * 501},
        {"unit": "v1/../.."},
        {"updated": ""},
        {"pinned": 1},
        {"more": 1},
    ],
)
def test_an_edited_status_is_refused(edit: dict[str, object]) -> None:
    record = {**json.loads(records.status("0" * 40).dump(status(1))), **edit}
    with pytest.raises(BadRecord, match=r"status\.json"):
        records.status("0" * 40).parse(json.dumps(record).encode(), "status.json")


@pytest.mark.parametrize("units", [{"../x": {"reason": "a", "serial": 1}}, {"v1": "bad"}, []])
def test_edited_yanks_are_refused(units: object) -> None:
    with pytest.raises(BadRecord, match=r"yanked\.json"):
        records.YANKED.parse(json.dumps({"schema": 1, "units": units}).encode(), "yanked.json")


@pytest.mark.parametrize("reason", ["two\nlines", "\x1b[31mred", "x" * 501, "\udce9", "\uffff"])
def test_what_nobody_could_read_is_not_written(reason: str) -> None:
    spoiled = dataclasses.replace(status(1), reason=reason)
    for record, value in (
        (records.status(spoiled.unit), spoiled),
        (records.COMMITS, Commits().with_status(spoiled)),
        (records.YANKED, Yanked().saying("v0.5.4", reason)),
    ):
        with pytest.raises(Unreadable, match="was not written"):
            record.dump(value)  # type: ignore[arg-type]  # of three types
