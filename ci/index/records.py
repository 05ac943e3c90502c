"""The mutable records: ledgers, yanks and the status of a commit.

Each has a serial that rises with every change, as PyPI's does. Pages contain it, so a page never
returns to earlier bytes. On S3, `If-Match` compares contents: without the serial, an overtaken
publisher would not notice a change that was undone (the ABA problem).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Annotated, Any, Generic, Mapping, Optional, TypeVar, cast

from packaging.version import Version

from ci.index import fields as f
from ci.index.fields import FLAT, Form
from ci.index.manifest import File, ListedVariant, Unit, prefix_of

# The page at `/` lists this many commits, in any state.
RECENT = 50

T = TypeVar("T")

UnitName = Annotated[str, Form(re.compile(rf"{f.COMMIT.pattern}|v{f.NUMBERS.pattern}"))]


class State(Enum):
    """The state of a commit."""

    PENDING = "pending"
    FAILED = "failed"
    COMPLETE = "complete"
    PRUNED = "pruned"


# What may replace a state: two publishers may write at once, and the later write may be the older
# news. A removed commit begins again with an upload.
FOLLOWING = {
    State.COMPLETE: (State.COMPLETE, State.PRUNED),
    State.PRUNED: (State.PRUNED, State.PENDING),
}


@dataclass(frozen=True)
class CommitStatus:
    """``COMMIT/status.json``, and an entry of the ledger of commits."""

    unit: UnitName
    number: int
    time: f.Time  # of the commit
    state: State
    reason: f.Line  # why it failed; empty otherwise
    updated: f.Time
    pinned: Optional[f.Line] = None  # why `prune` must not remove it
    subject: f.Line = field(default="", metadata=f.ADDED)  # of the commit
    docs: bool = field(default=False, metadata=f.ADDED)  # whether its documentation is published

    def follows(self, old: Optional[CommitStatus]) -> bool:
        """Whether this status may replace `old`, and does not forget its documentation."""
        if old is None:
            return True
        loses_docs = old.docs and not self.docs and self.state is old.state
        return self.state in FOLLOWING.get(old.state, tuple(State)) and not loses_docs


@dataclass(frozen=True)
class Ledger:
    """The units that an index lists, newest first, and every variant it has or had."""

    serial: int = 0
    units: tuple[Unit, ...] = ()
    variants: Mapping[f.VariantName, ListedVariant] = field(default_factory=dict)

    @classmethod
    def of_one(cls, unit: Unit, variants: Mapping[str, ListedVariant]) -> Ledger:
        """A ledger that lists a single unit and never changes."""
        return cls(0, (unit,), variants)

    @property
    def default(self) -> str:
        """The name of the default variant; empty if nothing was ever listed."""
        return next((name for name, variant in self.variants.items() if variant.default), "")

    def with_unit(
        self, unit: Unit, variants: Mapping[str, ListedVariant], limit: Optional[int]
    ) -> Ledger:
        """The ledger with `unit` inserted or replaced, cut to `limit`; itself if nothing changes.

        variants: those of the unit.
        """
        others = [other for other in self.units if other.name != unit.name]
        return self._next(tuple(sorted([*others, unit], key=_age, reverse=True)[:limit]), variants)

    def without(self, unit: str) -> Ledger:
        return self._next(tuple(other for other in self.units if other.name != unit), {})

    def moved_to(self, unit: Unit, variants: Mapping[str, ListedVariant]) -> Ledger:
        """The ledger with `unit` only."""
        return self._next((unit,), variants)

    def _next(self, units: tuple[Unit, ...], variants: Mapping[str, ListedVariant]) -> Ledger:
        known = {**self.variants, **variants}
        if units == self.units and known == self.variants:
            return self
        return Ledger(self.serial + 1, units, known)


@dataclass(frozen=True)
class Nightly:
    """The commit that ``nightly/`` has now, and the newest that it ever had."""

    ledger: Annotated[Ledger, FLAT] = field(default_factory=Ledger)
    newest_version: f.Numbers = "0"
    newest_number: int = 0

    @property
    def unit(self) -> Optional[Unit]:
        return self.ledger.units[0] if self.ledger.units else None

    @property
    def aliased(self) -> tuple[File, ...]:
        """The wheels that ``nightly/`` has copies of: those with the released version.

        Without variants on request: a later commit may lack one, and a stale copy would remain.
        """
        variants = self.ledger.variants
        return tuple(
            file
            for file in (self.unit.files if self.unit else ())
            if file.variant is not None
            and ".dev" not in file.version
            and not variants[file.variant].on_request
        )

    def is_overtaken_by(self, unit: Unit) -> bool:
        return unit.order > (Version(self.newest_version), self.newest_number)

    def moved_to(self, unit: Unit, variants: Mapping[str, ListedVariant]) -> Nightly:
        """`unit` as the nightly; also an older one, until a newer commit is published."""
        ledger = self.ledger.moved_to(unit, variants)
        if ledger is self.ledger:
            return self
        if self.is_overtaken_by(unit):
            return Nightly(ledger, unit.version, unit.number)
        return replace(self, ledger=ledger)


@dataclass(frozen=True)
class Commits:
    """The newest commits, built or not, for the table at `/`."""

    serial: int = 0
    commits: tuple[CommitStatus, ...] = ()

    def with_status(self, status: CommitStatus) -> Commits:
        """The ledger with `status`; itself if it has newer news of that commit."""
        old = next((other for other in self.commits if other.unit == status.unit), None)
        if not status.follows(old):
            return self
        others = [other for other in self.commits if other.unit != status.unit]
        commits = sorted([*others, status], key=lambda one: (one.time, one.unit), reverse=True)
        if tuple(commits[:RECENT]) == self.commits:
            return self
        return Commits(self.serial + 1, tuple(commits[:RECENT]))


@dataclass(frozen=True)
class Yank:
    """The latest yank of a unit: a reason to avoid it, or None if it was undone."""

    reason: Optional[f.Line]
    serial: int


@dataclass(frozen=True)
class Yanked:
    """The yanked units (PEP 592)."""

    units: Mapping[UnitName, Yank] = field(default_factory=dict)

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


@dataclass(frozen=True)
class Record(Generic[T]):
    """The key and type of a mutable record; `empty` stands for a missing one."""

    key: str
    kind: type[Any]
    empty: T
    indent: Optional[int] = 1

    def parse(self, data: bytes, where: str) -> T:
        """Parses a record; raises BadRecord. `where` names `data` in errors."""
        return cast(T, f.read(self.kind, data, where))

    def dump(self, value: T) -> bytes:
        return f.dump(value, indent=self.indent)


RELEASES = Record("state/releases.json", Ledger, Ledger(), indent=None)
NIGHTLIES = Record("state/nightlies.json", Ledger, Ledger(), indent=None)
NIGHTLY = Record("state/nightly.json", Nightly, Nightly())
COMMITS = Record("state/commits.json", Commits, Commits())
YANKED = Record("state/yanked.json", Yanked, Yanked())


def status(unit: str) -> Record[Optional[CommitStatus]]:
    """The status record of one commit; None before its first build."""
    return Record(status_key(unit), CommitStatus, None)


@dataclass(frozen=True)
class Records:
    """All records that shared pages are rendered from; by default, those of an empty bucket."""

    releases: Ledger = field(default_factory=Ledger)
    nightlies: Ledger = field(default_factory=Ledger)
    nightly: Nightly = field(default_factory=Nightly)
    commits: Commits = field(default_factory=Commits)
    yanked: Yanked = field(default_factory=Yanked)


def _age(unit: Unit) -> tuple[Any, ...]:
    """The sort key of units; the greatest is the newest."""
    return (*unit.order, unit.time, unit.commit)
