"""What each event makes of the records, whatever they say before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ci.index import records
from ci.index.manifest import Change, Manifest, of_matrix
from ci.index.records import CommitStatus, State
from ci.matrix import Matrix
from ci.publish import ledgers
from ci.publish.view import View
from ci.store import FolderStore
from tests.ci.index.conftest import make_unit

TIME = "2026-11-05T10:00:00Z"
LATER = "2026-11-05T11:00:00Z"
UNIT = "a" * 40


@pytest.fixture
def view(tmp_path: Path) -> View:
    return View(FolderStore(tmp_path / "bucket", durable=False))


@pytest.fixture
def numbered(the_matrix: Matrix) -> list[Manifest]:
    """Manifests by number."""
    return [of_matrix(make_unit(the_matrix, number), the_matrix) for number in range(5)]


def status(state: State, reason: str = "", time: str = TIME, subject: str = "") -> CommitStatus:
    return CommitStatus(UNIT, 1, TIME, state, reason, time, subject=subject)


def say(view: View, unit: str, reason: str | None) -> None:
    view.update(records.YANKED, lambda old: old.saying(unit, reason))


def mark(view: View, manifest: Manifest) -> None:
    """As `prune` marks a commit that it removes."""
    unit = manifest.unit
    pruned = CommitStatus(unit.name, unit.number, unit.time, State.PRUNED, "", TIME)
    view.update(records.status(unit.name), lambda old: pruned)


@pytest.mark.parametrize(
    ("old", "new", "revives", "changes"),
    [
        (State.PENDING, State.FAILED, False, True),
        (State.FAILED, State.PENDING, False, True),
        (State.FAILED, State.COMPLETE, False, True),
        (State.COMPLETE, State.FAILED, False, False),
        (State.COMPLETE, State.PENDING, True, False),
        (State.PRUNED, State.PENDING, False, False),
        (State.PRUNED, State.COMPLETE, False, False),
        (State.PRUNED, State.PENDING, True, True),
    ],
)
def test_a_complete_commit_stays_complete_and_a_removed_one_removed(
    view: View, old: State, new: State, revives: bool, changes: bool
) -> None:
    before, after = status(old), status(new, "why")
    assert ledgers.set_status(view, before) == before
    expected = after if changes else before
    assert ledgers.set_status(view, after, revives=revives) == expected
    assert view.read(records.status(UNIT), fresh=True) == expected
    assert view.read(records.COMMITS, fresh=True).commits == (expected,)


def test_a_status_keeps_what_its_predecessor_knew(view: View) -> None:
    first = CommitStatus(UNIT, 1, TIME, State.PENDING, "", TIME, pinned="mine", subject="One")
    ledgers.set_status(view, first)
    failed = ledgers.set_status(view, status(State.FAILED, "why", LATER))
    assert (failed.pinned, failed.subject, failed.updated) == ("mine", "One", LATER)
    again = ledgers.set_status(view, status(State.FAILED, "why", TIME, subject="Two"))
    assert again == failed  # the same news
    other = ledgers.set_status(view, status(State.FAILED, "another", TIME, subject="Two"))
    assert (other.reason, other.subject) == ("another", "Two")


def test_a_commit_that_is_complete_has_its_subject(the_matrix: Matrix) -> None:
    unit = make_unit(the_matrix)
    assert ledgers.complete(unit, LATER).subject == ""
    found = ledgers.complete(replace(unit, change=Change("One", None, 0, 0, ())), LATER)
    assert (found.unit, found.number, found.subject) == (unit.commit, unit.number, "One")
    assert (found.state, found.time, found.updated) == (State.COMPLETE, unit.time, LATER)


def test_the_nightly_is_the_newest_that_is_not_yanked(view: View, numbered: list[Manifest]) -> None:
    _, first, second, third, fourth = numbered

    def move(manifest: Manifest, *, back: bool = False) -> int:
        nightly = ledgers.move_nightly(view, manifest, back=back)
        assert nightly == view.read(records.NIGHTLY, fresh=True)
        return nightly.unit.number if nightly.unit else 0

    assert ledgers.leave_yanked(view).unit is None  # there is no nightly
    for each in (first, second, third):
        ledgers.list_nightly(view, each, 9)
    assert [move(second), move(first), move(first, back=True), move(second)] == [2, 2, 1, 1]
    say(view, third.unit.name, "bad")
    assert move(third) == 1
    say(view, third.unit.name, None)
    assert move(third) == 3
    say(view, third.unit.name, "bad")
    assert ledgers.leave_yanked(view).unit == second.unit
    say(view, second.unit.name, "bad")
    say(view, first.unit.name, "bad")
    assert ledgers.leave_yanked(view).unit == second.unit  # there is no better one
    ledgers.list_nightly(view, fourth, 9)
    assert ledgers.leave_yanked(view).unit == fourth.unit


def test_a_yank_by_another_command_is_seen_at_once(view: View, numbered: list[Manifest]) -> None:
    for each in numbered[1:3]:
        ledgers.list_nightly(view, each, 9)
        ledgers.move_nightly(view, each)
    say(View(view.store), numbered[2].unit.name, "bad")
    assert ledgers.leave_yanked(view).unit == numbered[1].unit


@pytest.mark.parametrize(("removed", "left"), [([2], 1), ([2, 1], 3)])
def test_a_yanked_nightly_is_not_replaced_by_what_is_being_removed(
    view: View, numbered: list[Manifest], removed: list[int], left: int
) -> None:
    for each in numbered[1:4]:
        ledgers.list_nightly(view, each, 9)
        ledgers.move_nightly(view, each)
    for number in removed:
        mark(view, numbered[number])
    say(view, numbered[3].unit.name, "bad")
    assert ledgers.leave_yanked(view).unit == numbered[left].unit
    assert view.read(records.NIGHTLY, fresh=True).unit == numbered[left].unit


def test_whether_a_commit_is_removed_is_read_afresh(view: View, numbered: list[Manifest]) -> None:
    manifest = numbered[1]
    assert not ledgers.is_removed(view, manifest.unit.name)
    mark(View(view.store), manifest)
    assert ledgers.is_removed(view, manifest.unit.name)


def test_links_to_a_removed_commit_are_taken_back(view: View, numbered: list[Manifest]) -> None:
    _, first, second, third, _ = numbered
    empty = view.read(records.NIGHTLY)
    ledgers.list_nightly(view, first, 9)
    before = ledgers.move_nightly(view, first)
    ledgers.list_nightly(view, second, 9)
    ledgers.move_nightly(view, second)
    ledgers.take_back(view, second.unit, empty)  # nothing to go back to
    assert view.read(records.NIGHTLY).unit == second.unit
    assert [unit.number for unit in view.read(records.NIGHTLIES).units] == [1]
    ledgers.take_back(view, second.unit, before)
    assert view.read(records.NIGHTLY).unit == first.unit
    ledgers.move_nightly(view, third)
    ledgers.take_back(view, second.unit, before)  # somebody else's is the nightly by now
    assert view.read(records.NIGHTLY).unit == third.unit


def test_an_index_keeps_its_limit_and_releases_have_none(
    view: View, numbered: list[Manifest]
) -> None:
    for each in numbered[1:]:
        ledgers.list_nightly(view, each, 2)
        ledgers.list_release(view, each)
    assert [unit.number for unit in view.read(records.NIGHTLIES).units] == [4, 3]
    assert [unit.number for unit in view.read(records.RELEASES).units] == [4, 3, 2, 1]
    assert ledgers.list_nightly(view, numbered[1], 2) == view.read(records.NIGHTLIES)
