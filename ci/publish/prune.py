"""Removes old commits: first a plan, then marks, then links, then the files that they pointed to.

Other commands run meanwhile. A commit is marked by its status; only then is it looked whether it is
still to be removed. Who links to a commit does so first and looks for a mark then
(`ci.publish.ledgers.is_removed`). So a commit that is pinned, promoted, released or completed
between the plan and its removal stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Callable, Optional, Sequence

from ci.index import pages, records
from ci.index.manifest import Unit, manifest_key, prefix_of
from ci.index.records import CommitStatus, State
from ci.publish import access
from ci.publish.care import NotPublished, find
from ci.publish.ledgers import is_removed
from ci.publish.plan import instant
from ci.publish.reindex import commits_in
from ci.publish.view import View
from ci.store import Store

INTERRUPTED = "its removal was interrupted"


@dataclass(frozen=True)
class Decision:
    """Whether a commit's folder is removed, and why."""

    unit: str
    removed: bool
    complete: bool
    why: str
    objects: int
    size: int  # bytes
    number: int
    time: str


def plan(store: Store, *, keep: int, older_than: timedelta, now: datetime) -> tuple[Decision, ...]:
    """Plans which commits `prune` removes: those beyond the newest `keep` that are old enough.

    Never the nightly, the commit of a release, or a pinned one. Incomplete uploads are removed
    after `older_than` without a change. Reads only.
    """
    state = View(store).read_all()
    protected = {
        unit.commit: f"release {unit.name} was made from it" for unit in state.releases.units
    }
    if state.nightly.unit:
        protected[state.nightly.unit.name] = "it is the nightly"
    units: list[Unit] = []
    unfinished: list[str] = []
    for name in commits_in(store):
        try:
            units.append(find(store, name).unit)
        except NotPublished:
            unfinished.append(name)
    units.sort(key=lambda unit: (*unit.order, unit.time, unit.commit), reverse=True)
    before = instant(now - older_than)
    decided = [
        _of_unit(store, unit, place, keep, before, protected.get(unit.name))
        for place, unit in enumerate(units)
    ]
    return tuple(decided) + tuple(_of_unfinished(store, name, before) for name in unfinished)


def prune(
    store: Store,
    decisions: Sequence[Decision],
    *,
    now: datetime,
    report: Callable[[str], None],
) -> tuple[Decision, ...]:
    """Carries out a plan; if interrupted anywhere, repeating it finishes the work.

    Returns the decisions, without the removal of commits that are protected by now.
    """
    done = tuple(_mark(store, decision, now) for decision in decisions)
    going = [decision for decision in done if decision.removed]
    _unlink(store, going)
    for decision in going:
        report(decision.unit)
        _remove(store, decision)
    return done


def _mark(store: Store, decision: Decision, now: datetime) -> Decision:
    """Marks a commit that is to be removed; if it may not be any more, the decision to keep it."""
    if not decision.removed:
        return decision
    view, record = View(store), records.status(decision.unit)
    marked = CommitStatus(
        decision.unit, decision.number, decision.time, State.PRUNED, decision.why, instant(now)
    )
    before = view.read(record) or replace(marked, state=State.COMPLETE, reason="")

    def mark(old: Optional[CommitStatus]) -> Optional[CommitStatus]:
        if old is None:
            return marked
        newer = old.state is State.COMPLETE and not decision.complete
        if newer or old.pinned is not None or old.state is State.PRUNED:
            return old
        return replace(marked, subject=old.subject)

    status = view.update(record, mark)
    stays = _protection(View(store), decision, status)
    if stays is None:
        return decision

    def restore(old: Optional[CommitStatus]) -> Optional[CommitStatus]:
        return before if old is not None and old.state is State.PRUNED else old

    view.update(record, restore)
    return replace(decision, removed=False, why=f"since the plan was made, {stays}")


def _protection(view: View, decision: Decision, status: Optional[CommitStatus]) -> Optional[str]:
    """Why a commit must stay, by what the bucket says now."""
    if status is not None and status.pinned is not None:
        return f"it was pinned: {status.pinned}"
    if not decision.complete and access.look(view.store, manifest_key(decision.unit)):
        return "it was completed"
    nightly = view.read(records.NIGHTLY).unit
    if nightly is not None and nightly.name == decision.unit:
        return "it became the nightly"
    releases = (unit for unit in view.read(records.RELEASES).units if unit.commit == decision.unit)
    return next((f"release {unit.name} was made from it" for unit in releases), None)


def _unlink(store: Store, going: Sequence[Decision]) -> None:
    """Takes marked commits out of the ledgers and pages."""
    view = View(store)
    view.see(*pages.SHARED)
    view.look([pages.HOME])
    statuses = (view.read(records.status(decision.unit)) for decision in going)
    marked = [status for status in statuses if status and status.state is State.PRUNED]

    def unlist(ledger: records.Ledger) -> records.Ledger:
        for status in marked:
            ledger = ledger.without(status.unit)
        return ledger

    def tell(commits: records.Commits) -> records.Commits:
        for status in marked:
            commits = commits.with_status(status)
        return commits

    view.update(records.NIGHTLIES, unlist)
    view.update(records.COMMITS, tell)
    keys = pages.after_commit(view.read_all())
    view.refresh(keys, lambda: pages.after_commit(view.read_all()))


def _of_unit(
    store: Store, unit: Unit, place: int, keep: int, before: str, protected: Optional[str]
) -> Decision:
    status = access.read(store, records.status(unit.name))
    reasons = [
        protected,
        f"it is pinned: {status.pinned}" if status and status.pinned is not None else None,
        f"it is among the newest {keep}" if place < keep else None,
        f"it was published at {unit.published}" if unit.published >= before else None,
    ]
    stays = next((reason for reason in reasons if reason), None)
    if status is not None and status.state is State.PRUNED and protected is None:
        return _decide(store, unit.name, True, INTERRUPTED, unit.number, unit.time, complete=True)
    why = stays or f"older than {before}, and not among the newest {keep}"
    return _decide(store, unit.name, stays is None, why, unit.number, unit.time, complete=True)


def _of_unfinished(store: Store, name: str, before: str) -> Decision:
    status = access.read(store, records.status(name))
    if status is None:
        return _decide(
            store, name, False, "it has no status, so this tool may not have written it", 0, ""
        )
    if status.state is State.PRUNED:
        left = sum(1 for _ in store.list(prefix_of(name)))
        why = INTERRUPTED if left > 1 else "it was removed before"
        return _decide(store, name, left > 1, why, status.number, status.time)
    old = status.updated < before and status.pinned is None
    why = f"{status.state.value} since {status.updated}, never completed"
    return _decide(store, name, old, why, status.number, status.time)


def _decide(
    store: Store,
    name: str,
    removed: bool,
    why: str,
    number: int,
    time: str,
    *,
    complete: bool = False,
) -> Decision:
    entries = list(store.list(prefix_of(name))) if removed else []
    size = sum(entry.size for entry in entries)
    return Decision(name, removed, complete, why, len(entries), size, number, time)


def _remove(store: Store, decision: Decision) -> None:
    prefix = prefix_of(decision.unit)
    keys = [entry.key for entry in store.list(prefix) if entry.key != f"{prefix}status.json"]
    # Of an empty folder, the mark may be gone: a publisher has begun anew, and what is listed is
    # its upload. One that begins after this look uploads what is not in the list.
    if not is_removed(View(store), decision.unit):
        return
    # Pages first, then the manifest, then the files that they link to.
    for key in sorted(keys, key=lambda key: (_rank(key), key)):
        for address in (key, *store.aliases(key)):
            store.delete(address)


def _rank(key: str) -> int:
    name = key.rpartition("/")[2]
    return 0 if name.startswith("index.") else 1 if name == "manifest.json" else 2
