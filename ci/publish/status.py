"""What a bucket holds, what is missing from it, and why; reads only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from ci import names
from ci.index import manifest as manifests
from ci.index import pages, records
from ci.index.manifest import File, Manifest, manifest_key
from ci.index.records import CommitStatus, State
from ci.matrix import Matrix
from ci.publish import access
from ci.publish.care import NotPublished, find
from ci.publish.reindex import commits_in, is_left_out
from ci.publish.view import View, unit_pages
from ci.store import NotFound, Store


@dataclass(frozen=True)
class BucketStatus:
    """A summary of a bucket."""

    nightly: Optional[str]
    nightlies: int
    releases: tuple[str, ...]
    yanked: dict[str, str]  # unit → why
    recent: tuple[CommitStatus, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class UnitStatus:
    """One commit or release."""

    unit: str
    state: str
    reason: str
    updated: str
    published: Optional[str]
    number: Optional[int]
    nightly: bool
    listed: bool  # in the index of nightlies, or of releases
    yanked: Optional[str]
    pinned: Optional[str]
    files: tuple[File, ...]
    problems: tuple[str, ...]  # missing or wrong objects


def of_bucket(store: Store, matrix: Matrix) -> BucketStatus:
    view = View(store)
    state = view.read_all()
    nightly = state.nightly.unit
    problems = _page_problems(store, pages.shared(state))
    # An unlisted commit may be old, or lost from the ledger; its manifest shows which.
    listed = {unit.name for unit in state.nightlies.units}
    for name in commits_in(store):
        if name not in listed and (manifest := _manifest(store, name)):
            problems += _listing_problems(view, manifest, matrix)
    for file in state.nightly.aliased:
        problems += _file_problems(store, names.nightly_key(file.name), file.sha256)
    return BucketStatus(
        nightly.name if nightly else None,
        len(state.nightlies.units),
        tuple(unit.name for unit in state.releases.units),
        {name: y.reason for name, y in state.yanked.units.items() if y.reason is not None},
        state.commits.commits,
        tuple(problems),
    )


def of_unit(store: Store, unit: str, matrix: Matrix) -> UnitStatus:
    """The status of one unit; every file is checked. Raises NotPublished for an unknown unit."""
    status = access.read(store, records.status(unit))
    manifest = _manifest(store, unit)
    if status is None and manifest is None:
        find(store, unit)
    view = View(store)
    state = view.read_all()
    ledger = state.releases if manifest and manifest.unit.release else state.nightlies
    nightly = state.nightly.unit
    found = manifest.unit if manifest else None
    return UnitStatus(
        unit=unit,
        state=State.COMPLETE.value if found else status.state.value if status else "",
        reason=status.reason if status else "",
        updated=status.updated if status else "",
        published=found.published if found else None,
        number=found.number if found else status.number if status else None,
        nightly=nightly is not None and nightly.name == unit,
        listed=any(other.name == unit for other in ledger.units),
        yanked=state.yanked.reason(unit),
        pinned=status.pinned if status else None,
        files=found.files if found else (),
        problems=tuple(_unit_problems(view, manifest, matrix) if manifest else ()),
    )


def _manifest(store: Store, unit: str) -> Optional[Manifest]:
    key = manifest_key(unit)
    try:
        return manifests.parse(store.get(key).body, f"{key} in {store.name}")
    except NotFound:
        return None


def _listing_problems(view: View, manifest: Manifest, matrix: Matrix) -> list[str]:
    if not is_left_out(view, manifest, matrix):
        return []
    return [f"{manifest.unit.name} is complete and recent, but not listed: run reindex"]


def _unit_problems(view: View, manifest: Manifest, matrix: Matrix) -> list[str]:
    store, unit = view.store, manifest.unit
    problems = _listing_problems(view, manifest, matrix)
    for file in unit.files:
        problems += _file_problems(store, unit.prefix + file.name, file.sha256)
        if file.metadata_sha256:
            key = f"{unit.prefix}{file.name}.metadata"
            problems += _file_problems(store, key, file.metadata_sha256)
    for other in unit.attachments:
        problems += _file_problems(store, unit.prefix + other.name, other.sha256)
    return problems + _page_problems(store, unit_pages(view, manifest))


def _file_problems(store: Store, key: str, sha256: str) -> list[str]:
    problems = []
    for address in (key, *store.aliases(key)):
        entry = access.look(store, address)
        if entry is None:
            problems.append(f"{address} is missing")
        elif (found := access.digest(store, entry)) != sha256:
            problems.append(f"{address} has sha256 {found}, not {sha256}")
    return problems


def _page_problems(store: Store, expected: dict[str, bytes]) -> list[str]:
    problems = []
    for key, body in expected.items():
        for address in (key, *store.aliases(key)):
            try:
                if store.get(address).body != body:
                    problems.append(f"{address} differs from the records: run reindex")
            except NotFound:
                problems.append(f"{address} is missing: run reindex")
    return problems


__all__ = ["BucketStatus", "NotPublished", "UnitStatus", "of_bucket", "of_unit"]
