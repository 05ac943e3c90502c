"""The changes of mutable records for each event; all functions are idempotent."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from ci.index import records
from ci.index.manifest import Manifest, Unit
from ci.index.records import CommitStatus, Ledger, Nightly, State
from ci.publish.errors import PublishError
from ci.publish.view import View


def set_status(view: View, new: CommitStatus, *, revives: bool = False) -> CommitStatus:
    """Writes the state of a commit to its own record, then to the ledger of commits; returns it.

    A complete commit stays complete if a later build begins or fails, and a removed one stays
    removed, unless `revives`.
    """

    def change(old: Optional[CommitStatus]) -> Optional[CommitStatus]:
        if old is None:
            return new
        if old.state is State.COMPLETE or (old.state is State.PRUNED and not revives):
            return old
        if (old.state, old.reason) == (new.state, new.reason):
            return old
        return replace(new, pinned=old.pinned, subject=new.subject or old.subject)

    status = view.update(records.status(new.unit), change) or new
    view.update(records.COMMITS, lambda commits: commits.with_status(status))
    return status


def complete(unit: Unit, updated: str) -> CommitStatus:
    """The status of a commit with all its wheels published."""
    subject = unit.change.subject if unit.change else ""
    return CommitStatus(
        unit.name, unit.number, unit.time, State.COMPLETE, "", updated, subject=subject
    )


def list_release(view: View, manifest: Manifest) -> Ledger:
    return view.update(
        records.RELEASES,
        lambda old: old.with_unit(manifest.unit, manifest.listed, None),
    )


def list_nightly(view: View, manifest: Manifest, limit: int) -> Ledger:
    """Lists a commit among the newest `limit`, unless all of those are newer."""
    return view.update(
        records.NIGHTLIES,
        lambda old: old.with_unit(manifest.unit, manifest.listed, limit),
    )


def move_nightly(view: View, manifest: Manifest, *, back: bool = False) -> Nightly:
    """Makes a commit the nightly if it is the newest ever and not yanked; with `back`, always."""
    unit = manifest.unit
    yanked = view.read(records.YANKED)

    def move(old: Nightly) -> Nightly:
        overtakes = old.is_overtaken_by(unit) and yanked.reason(unit.name) is None
        return old.moved_to(unit, manifest.listed) if overtakes or back else old

    view.update(records.NIGHTLY, move)
    return leave_yanked(view)


def leave_yanked(view: View) -> Nightly:
    """If the nightly is yanked, moves it to the newest commit that is not, if there is one.

    Called after every write of either record, so the later of two concurrent writers sees both.
    """
    nightly = view.read(records.NIGHTLY)
    yanked = view.read(records.YANKED, fresh=True)

    def yanks(unit: Unit) -> bool:
        return yanked.reason(unit.name) is not None

    if nightly.unit is None or not yanks(nightly.unit):
        return nightly
    nightlies = view.read(records.NIGHTLIES)
    removed: set[str] = set()
    # If all others are yanked, or go, it stays what it is.
    for unit in (*(unit for unit in nightlies.units if not yanks(unit)), nightly.unit):

        def move(old: Nightly, unit: Unit = unit) -> Nightly:
            if old.unit is None or (old.unit.name not in removed and not yanks(old.unit)):
                return old
            return old.moved_to(unit, nightlies.variants)

        nightly = view.update(records.NIGHTLY, move)
        if nightly.unit is None or not is_removed(view, nightly.unit.name):
            break
        removed.add(nightly.unit.name)
    return nightly


class BeingRemoved(PublishError):
    """`prune` has begun to remove the commit."""

    def __init__(self, view: View, unit: str) -> None:
        super().__init__(
            f"{unit} is being removed from {view.store.name}",
            means="`prune` has marked it: its files are going, and nothing may link to them",
            do="let `python -m ci prune --yes` finish; afterwards it can be published again",
        )


def is_removed(view: View, unit: str) -> bool:
    """Whether `prune` has marked a commit, read afresh.

    To be asked after a link to it was written. `prune` marks first and looks for links then, so of
    two concurrent commands at least one sees the other.
    """
    status = view.read(records.status(unit), fresh=True)
    return status is not None and status.state is State.PRUNED


def take_back(view: View, unit: Unit, before: Nightly) -> None:
    """Undoes the links to a commit that `prune` removes; `before`: the nightly before them."""

    def back(now: Nightly) -> Nightly:
        if now.unit is None or now.unit.name != unit.name or before.unit is None:
            return now
        return now.moved_to(before.unit, before.ledger.variants)

    view.update(records.NIGHTLIES, lambda ledger: ledger.without(unit.name))
    view.update(records.NIGHTLY, back)
    leave_yanked(view)
