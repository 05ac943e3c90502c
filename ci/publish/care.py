"""Manual changes of published commits: yank, unyank, promote, pin."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional

from ci.index import manifest as manifests
from ci.index import pages, records
from ci.index.manifest import Manifest, manifest_key
from ci.index.records import CommitStatus, State
from ci.publish import access
from ci.publish.aliases import alias_nightly
from ci.publish.errors import PublishError
from ci.publish.ledgers import (
    BeingRemoved,
    is_removed,
    leave_yanked,
    move_nightly,
    take_back,
)
from ci.publish.view import View, unit_pages
from ci.store import NotFound, Store


class NotPublished(PublishError):
    """The bucket has no complete commit or release of that name."""


@dataclass(frozen=True)
class CareResult:
    """What a command changed. `nightly`: the commit that ``nightly/`` has afterwards."""

    unit: str
    changed: bool
    nightly: Optional[str]
    pages: tuple[str, ...]


def find(store: Store, unit: str) -> Manifest:
    """The manifest of a published unit; raises NotPublished with the unit's state."""
    key = manifest_key(unit)
    try:
        return manifests.parse(store.get(key).body, f"{key} in {store.name}")
    except NotFound:
        pass
    status = access.read(store, records.status(unit))
    said = f"; its state is {status.state.value} {status.reason}".rstrip() if status else ""
    raise NotPublished(
        f"{unit} is not published in {store.name}{said}",
        means="it has no manifest: a manifest is written once all its wheels are uploaded",
        do="python -m ci status lists what is published",
    )


def yank(store: Store, unit: str, reason: Optional[str]) -> CareResult:
    """Yanks a unit (PEP 592): resolvers then use it only if pinned. A reason of None undoes that.

    If it is the nightly, the newest commit that is not yanked takes its place.
    """
    manifest = find(store, unit)
    view = _view(store, manifest.unit.prefix)
    before = view.read(records.YANKED)
    after = view.update(records.YANKED, lambda yanked: yanked.saying(unit, reason))
    leave_yanked(view)
    written = view.refresh(
        pages.of_unit(manifest, after),
        lambda: unit_pages(view, manifest),
    )
    return _finish(view, unit, before != after, written)


def promote(store: Store, unit: str) -> CareResult:
    """Makes a published commit the nightly, also one older than the current nightly.

    It stays until a commit newer than every previous nightly is published.
    """
    manifest = find(store, unit)
    if manifest.unit.release:
        raise PublishError(
            f"{unit} is a release; nightly/ is always a commit",
            do=f"promote its commit: {manifest.unit.commit}",
        )
    view = _view(store)
    if (reason := view.read(records.YANKED).reason(unit)) is not None:
        raise PublishError(
            f"{unit} was yanked: {reason}",
            means="a yanked commit is not offered to people who did not choose it",
            do=f"python -m ci unyank {unit}",
        )
    before = view.read(records.NIGHTLY)
    after = move_nightly(view, manifest, back=True)
    if is_removed(view, unit):
        take_back(view, manifest.unit, before)
        _finish(view, unit, False, ())
        raise BeingRemoved(view, unit)
    return _finish(view, unit, before != after, ())


def pin(store: Store, unit: str, reason: Optional[str]) -> CareResult:
    """Protects a commit from `prune` for a reason; None ends that."""
    find(store, unit)
    view = View(store)

    def change(status: Optional[CommitStatus]) -> Optional[CommitStatus]:
        if status is not None and status.state is State.PRUNED:
            raise BeingRemoved(view, unit)
        if status is None or status.pinned == reason:
            return status
        return replace(status, pinned=reason)

    before = view.read(records.status(unit))
    after = view.update(records.status(unit), change)
    nightly = view.read(records.NIGHTLY).unit
    return CareResult(unit, before != after, nightly.name if nightly else None, ())


def _view(store: Store, *prefixes: str) -> View:
    """A view of all shared pages, and of the objects below `prefixes`."""
    view = View(store)
    view.see(*pages.SHARED, *prefixes)
    view.look([pages.HOME])
    return view


def _finish(view: View, unit: str, changed: bool, written: tuple[str, ...]) -> CareResult:
    shared = view.refresh(pages.shared(view.read_all()), lambda: pages.shared(view.read_all()))
    aliases = alias_nightly(view)
    nightly = view.read(records.NIGHTLY).unit
    name = nightly.name if nightly else None
    return CareResult(unit, changed, name, (*written, *shared, *aliases))
