"""Where a commit's wheels are, or why it has none: for ``ci why`` and 404 pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from ci.index import manifest as manifests
from ci.index import records
from ci.index.manifest import Unit, manifest_key
from ci.index.records import CommitStatus, State
from ci.publish import access
from ci.store import NotFound, Store


@dataclass(frozen=True)
class Near:
    """A listed commit that is named beside another: it has wheels."""

    commit: str
    number: int
    time: str
    subject: str

    @classmethod
    def of(cls, unit: Unit) -> Near:
        subject = unit.change.subject if unit.change else ""
        return cls(unit.commit, unit.number, unit.time, subject)


@dataclass(frozen=True)
class Why:
    """The state of a commit, explained."""

    commit: str
    subject: str
    said: str  # one or two sentences
    wheels: tuple[str, ...]  # their keys
    near: tuple[Near, ...]  # the next older and newer commits with wheels, if this one has none


def of(store: Store, commit: str, time: Optional[str] = None) -> Why:
    """Explains the state of a commit; reads only.

    time: of the commit, in the format of records, for a commit that the bucket may not know.
    Raises BadRecord for a record that was edited by hand, and StoreError.
    """
    unit = _complete(store, commit)
    if unit is not None:
        wheels = tuple(unit.prefix + file.name for file in unit.files)
        said = f"Commit {commit} is complete: {len(wheels)} wheels, published {unit.published}."
        yanked = access.read(store, records.YANKED).reason(commit)
        if yanked is not None:
            said += f" It was yanked: {yanked}"
        return Why(commit, unit.change.subject if unit.change else "", said, wheels, ())
    status = access.read(store, records.status(commit))
    near = _near(store, status.time if status else time)
    if status is None:
        return Why(commit, "", _unknown(commit), (), near)
    return Why(commit, status.subject, explain(status), (), near)


def begun_by(store: Store, digits: str) -> tuple[Near, ...]:
    """The listed commits whose hash begins with these digits, newest first."""
    units = access.read(store, records.NIGHTLIES).units
    return tuple(Near.of(unit) for unit in units if unit.commit.startswith(digits))


def explain(status: CommitStatus) -> str:
    """The state of an incomplete commit, in one or two sentences."""
    when = status.updated
    if status.state is State.PENDING:
        return (
            f"Commit {status.unit} has been building or uploading since {when}. Its wheels appear "
            "together when all are uploaded; if that was long ago, the publication was interrupted."
        )
    if status.state is State.PRUNED:
        return f"The wheels of commit {status.unit} were removed at {when}: {status.reason}"
    if status.state is State.COMPLETE:
        return f"Commit {status.unit} was complete, but its manifest is missing: restore it."
    return f"Commit {status.unit} has no wheels: {status.reason} ({when})"


def _unknown(commit: str) -> str:
    return (
        f"No build of commit {commit} was started here. Either it is not a commit of the main "
        "branch, or it is waiting to be built."
    )


def _complete(store: Store, commit: str) -> Optional[Unit]:
    key = manifest_key(commit)
    try:
        return manifests.parse(store.get(key).body, f"{key} in {store.name}").unit
    except NotFound:
        return None


def _near(store: Store, time: Optional[str]) -> tuple[Near, ...]:
    if time is None:
        return ()
    units = access.read(store, records.NIGHTLIES).units  # newest first
    older = next((unit for unit in units if unit.time <= time), None)
    newer = next((unit for unit in reversed(units) if unit.time > time), None)
    return tuple(Near.of(unit) for unit in (older, newer) if unit is not None)
