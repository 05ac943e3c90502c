"""The mutable records: ledgers, yanks and the status of a commit.

Each has a serial that rises with every change, as PyPI's does. Pages show it, so no page is ever
again the bytes that it was before a change, and a publisher that was overtaken notices (`If-Match`
compares contents, on S3).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Callable, Generic, Mapping, Optional, TypeVar

from packaging.version import Version

from ci.index import fields as f
from ci.index.fields import Fields
from ci.index.manifest import Unit, prefix_of, unit_from, unit_record

# The listing of `/` shows this many commits, whatever became of them.
RECENT = 50

T = TypeVar("T")

_UNIT = re.compile(rf"{f.COMMIT.pattern}|v{f.NUMBERS.pattern}")


class State(Enum):
    """What became of a commit."""

    PENDING = "pending"
    FAILED = "failed"
    COMPLETE = "complete"
    PRUNED = "pruned"


@dataclass(frozen=True)
class Status:
    """``COMMIT/status.json``, and an entry of the listing's ledger."""

    unit: str
    number: int
    time: str  # of the commit
    state: State
    reason: str  # why it failed; empty otherwise
    updated: str
    pinned: Optional[str] = None  # why `prune` must never take it


@dataclass(frozen=True)
class Ledger:
    """The units that an index lists, newest first, and the variants it has ever had."""

    serial: int = 0
    units: tuple[Unit, ...] = ()
    variants: Mapping[str, bool] = field(default_factory=dict)  # name → whether it is the default

    def with_unit(self, unit: Unit, variants: Mapping[str, bool], limit: Optional[int]) -> Ledger:
        """The ledger with `unit` in its place, at most `limit` long; itself if nothing changes."""
        others = [other for other in self.units if other.name != unit.name]
        units = tuple(sorted([*others, unit], key=_newest_first, reverse=True)[:limit])
        return self._next(units, {**self.variants, **variants})

    def without(self, unit: str) -> Ledger:
        return self._next(tuple(other for other in self.units if other.name != unit), self.variants)

    def _next(self, units: tuple[Unit, ...], variants: Mapping[str, bool]) -> Ledger:
        if units == self.units and dict(variants) == dict(self.variants):
            return self
        return Ledger(self.serial + 1, units, variants)


@dataclass(frozen=True)
class Nightly:
    """Which commit ``nightly/`` is, and the newest that it has ever been."""

    ledger: Ledger = field(default_factory=Ledger)
    newest: Optional[tuple[str, int]] = None  # version and number

    @property
    def unit(self) -> Optional[Unit]:
        return self.ledger.units[0] if self.ledger.units else None

    def is_overtaken_by(self, unit: Unit) -> bool:
        if self.newest is None:
            return True
        version, number = self.newest
        return unit.order > (Version(version), number)

    def moved_to(self, unit: Unit, variants: Mapping[str, bool]) -> Nightly:
        """`unit` as the nightly, be it newer or older: an older one stays until a newer comes."""
        newest = (unit.version, unit.number) if self.is_overtaken_by(unit) else self.newest
        ledger = self.ledger._next((unit,), {**self.ledger.variants, **variants})
        return self if ledger is self.ledger else Nightly(ledger, newest)


@dataclass(frozen=True)
class Commits:
    """The newest commits that were ever begun, for the listing."""

    serial: int = 0
    entries: tuple[Status, ...] = ()

    def with_status(self, status: Status) -> Commits:
        others = [entry for entry in self.entries if entry.unit != status.unit]
        entries = sorted(
            [*others, status], key=lambda entry: (entry.time, entry.unit), reverse=True
        )
        if tuple(entries[:RECENT]) == self.entries:
            return self
        return Commits(self.serial + 1, tuple(entries[:RECENT]))


@dataclass(frozen=True)
class Yank:
    """What was said last of a unit: a reason to avoid it, or (None) that it is fine again."""

    reason: Optional[str]
    serial: int


@dataclass(frozen=True)
class Yanked:
    """The units that somebody said to avoid; PEP 592."""

    units: Mapping[str, Yank] = field(default_factory=dict)

    def reason(self, unit: str) -> Optional[str]:
        yank = self.units.get(unit)
        return yank.reason if yank else None

    def serial(self, unit: str) -> int:
        yank = self.units.get(unit)
        return yank.serial if yank else 0

    def saying(self, unit: str, reason: Optional[str]) -> Yanked:
        if self.reason(unit) == reason:
            return self
        return Yanked({**self.units, unit: Yank(reason, self.serial(unit) + 1)})


def status_key(unit: str) -> str:
    return prefix_of(unit) + "status.json"


def parse_ledger(data: bytes, where: str) -> Ledger:
    fields = f.load(data, where)
    ledger = _ledger(fields)
    fields.end()
    return ledger


def dump_ledger(ledger: Ledger) -> bytes:
    return f.dump(_ledger_record(ledger), indent=None)


def parse_nightly(data: bytes, where: str) -> Nightly:
    fields = f.load(data, where)
    ledger = _ledger(fields)
    version = fields.text("newest_version", f.NUMBERS)
    nightly = Nightly(ledger, (version, fields.number("newest_number")))
    fields.end()
    return nightly


def dump_nightly(nightly: Nightly) -> bytes:
    version, number = nightly.newest or ("0", 0)
    return f.dump(
        {
            **_ledger_record(nightly.ledger),
            "newest_version": version,
            "newest_number": number,
        }
    )


def parse_commits(data: bytes, where: str) -> Commits:
    fields = f.load(data, where)
    commits = Commits(fields.number("serial"), fields.objects("commits", _status))
    fields.end()
    return commits


def dump_commits(commits: Commits) -> bytes:
    return f.dump(
        {"serial": commits.serial, "commits": [_status_record(s) for s in commits.entries]}
    )


def parse_status(data: bytes, where: str) -> Status:
    fields = f.load(data, where)
    status = _status(fields)
    fields.end()
    return status


def dump_status(status: Status) -> bytes:
    return f.dump(_status_record(status))


def parse_yanked(data: bytes, where: str) -> Yanked:
    fields = f.load(data, where)
    units = fields.mapping("units", _UNIT, _yank)
    fields.end()
    return Yanked(units)


def dump_yanked(yanked: Yanked) -> bytes:
    return f.dump({"units": {unit: dict(vars(yank)) for unit, yank in yanked.units.items()}})


@dataclass(frozen=True)
class Record(Generic[T]):
    """Where a mutable record lies and how it is read and written; `empty` is a missing one."""

    key: str
    empty: T
    parse: Callable[[bytes, str], T]
    dump: Callable[[T], bytes]


RELEASES = Record("state/releases.json", Ledger(), parse_ledger, dump_ledger)
NIGHTLIES = Record("state/nightlies.json", Ledger(), parse_ledger, dump_ledger)
NIGHTLY = Record("state/nightly.json", Nightly(), parse_nightly, dump_nightly)
COMMITS = Record("state/commits.json", Commits(), parse_commits, dump_commits)
YANKED = Record("state/yanked.json", Yanked(), parse_yanked, dump_yanked)


def status(unit: str) -> Record[Optional[Status]]:
    """The record of what became of one commit; None before anybody began it."""

    def dump(status: Optional[Status]) -> bytes:
        assert status is not None, "a status is never removed"
        return dump_status(status)

    return Record(status_key(unit), None, parse_status, dump)


def _newest_first(unit: Unit) -> tuple[Any, ...]:
    return (*unit.order, unit.time, unit.commit)


def _ledger(fields: Fields) -> Ledger:
    return Ledger(
        fields.number("serial"),
        fields.objects("units", unit_from),
        fields.mapping("variants", f.VARIANT, lambda variant: variant.flag("default")),
    )


def _ledger_record(ledger: Ledger) -> dict[str, Any]:
    return {
        "serial": ledger.serial,
        "units": [unit_record(unit) for unit in ledger.units],
        "variants": {name: {"default": default} for name, default in ledger.variants.items()},
    }


def _status(fields: Fields) -> Status:
    return Status(
        unit=fields.text("unit", _UNIT),
        number=fields.number("number"),
        time=fields.text("time", f.TIME),
        state=State(fields.text("state", _STATE)),
        reason=fields.text("reason", f.LINE),
        updated=fields.text("updated", f.TIME),
        pinned=fields.optional_text("pinned", f.LINE),
    )


_STATE = re.compile("|".join(state.value for state in State))


def _status_record(status: Status) -> dict[str, Any]:
    return {**vars(status), "state": status.state.value}


def _yank(fields: Fields) -> Yank:
    return Yank(fields.optional_text("reason", f.LINE), fields.number("serial"))
