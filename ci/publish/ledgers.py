"""The changes of mutable records for each event; all functions are idempotent."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from ci.index import records
from ci.index.manifest import Manifest, Unit
from ci.index.records import Commits, CommitStatus, Ledger, Nightly, State
from ci.publish.view import View


def set_status(view: View, new: CommitStatus, *, pruned: bool = False) -> Commits:
    """Writes the state of a commit to its own record, then to the ledger of commits.

    A complete commit stays complete if a later build begins or fails; only `pruned` ends that.
    """

    def change(old: Optional[CommitStatus]) -> Optional[CommitStatus]:
        if old is None:
            return new
        if old.state is State.COMPLETE and not pruned:
            return old
        if (old.state, old.reason) == (new.state, new.reason):
            return old
        return replace(new, pinned=old.pinned, subject=new.subject or old.subject)

    status = view.update(records.status(new.unit), change) or new
    return view.update(records.COMMITS, lambda commits: commits.with_status(status))


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
    if nightly.unit is None or yanked.reason(nightly.unit.name) is None:
        return nightly
    nightlies = view.read(records.NIGHTLIES)
    fine = [unit for unit in nightlies.units if yanked.reason(unit.name) is None]

    def move(old: Nightly) -> Nightly:
        if old.unit is None or yanked.reason(old.unit.name) is None or not fine:
            return old
        return old.moved_to(fine[0], nightlies.variants)

    return view.update(records.NIGHTLY, move)
