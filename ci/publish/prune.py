"""Removes old commits: first a plan, then links, then the files that they pointed to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Callable, Optional, Sequence

from ci.index import pages, records
from ci.index.manifest import Unit, prefix_of
from ci.index.records import CommitStatus, State
from ci.publish import access
from ci.publish.care import find
from ci.publish.ledgers import set_status
from ci.publish.plan import instant
from ci.publish.reindex import commits_in
from ci.publish.view import View
from ci.store import Store


@dataclass(frozen=True)
class Decision:
    """Whether a commit's folder is removed, and why."""

    unit: str
    removed: bool
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
        if access.look(store, f"{name}/manifest.json"):
            units.append(find(store, name).unit)
        else:
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
) -> None:
    """Carries out a plan; if interrupted anywhere, repeating it finishes the work."""
    going = [decision for decision in decisions if decision.removed]

    def change(ledger: records.Ledger) -> records.Ledger:
        for decision in going:
            ledger = ledger.without(decision.unit)
        return ledger

    View(store).update(records.NIGHTLIES, change)
    _refresh(store)
    for decision in going:
        report(decision.unit)
        _remove(store, decision, now)
    _refresh(store)


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
    why = stays or f"older than {before}, and not among the newest {keep}"
    return _decide(store, unit.name, stays is None, why, unit.number, unit.time)


def _of_unfinished(store: Store, name: str, before: str) -> Decision:
    status = access.read(store, records.status(name))
    if status is None:
        return _decide(
            store, name, False, "it has no status, so this tool may not have written it", 0, ""
        )
    if status.state is State.PRUNED:
        left = sum(1 for _ in store.list(prefix_of(name)))
        why = "its removal was interrupted" if left > 1 else "it was removed before"
        return _decide(store, name, left > 1, why, status.number, status.time)
    old = status.updated < before and status.pinned is None
    why = f"{status.state.value} since {status.updated}, never completed"
    return _decide(store, name, old, why, status.number, status.time)


def _decide(store: Store, name: str, removed: bool, why: str, number: int, time: str) -> Decision:
    entries = list(store.list(prefix_of(name))) if removed else []
    return Decision(
        name, removed, why, len(entries), sum(entry.size for entry in entries), number, time
    )


def _remove(store: Store, decision: Decision, now: datetime) -> None:
    prefix = prefix_of(decision.unit)
    status = CommitStatus(
        decision.unit, decision.number, decision.time, State.PRUNED, decision.why, instant(now)
    )
    set_status(View(store), status, pruned=True)
    keys = [entry.key for entry in store.list(prefix) if entry.key != f"{prefix}status.json"]
    # Pages first, then the manifest, then the files that they link to.
    for key in sorted(keys, key=lambda key: (_rank(key), key)):
        for address in (key, *store.aliases(key)):
            store.delete(address)


def _rank(key: str) -> int:
    name = key.rpartition("/")[2]
    return 0 if name.startswith("index.") else 1 if name == "manifest.json" else 2


def _refresh(store: Store) -> None:
    view = View(store)
    view.see(*pages.SHARED)
    view.look([pages.HOME])
    keys = pages.after_commit(view.read_all())
    view.refresh(keys, lambda: pages.after_commit(view.read_all()))
