"""Publishes one commit or release as a transaction.

1. Files and sidecars, create-only. Nothing links to them yet.
2. The manifest, create-only and complete: the commit point.
3. The ledgers, by conditional write; then the pages, which are functions of the ledgers.
4. The bare ``nightly/`` wheels, copied inside the bucket, last.

If it stops anywhere, everything listed is complete, and repeating the call finishes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Mapping, Optional, Sequence

from ci.git import Commit
from ci.index import manifest as manifests
from ci.index import pages, records
from ci.index.manifest import Attachment, Manifest, Unit, manifest_key
from ci.index.records import CommitStatus, Records, State, Yanked
from ci.matrix import Matrix
from ci.publish import access, plan
from ci.publish.aliases import alias_nightly
from ci.publish.beside import of_commit, symbols_of
from ci.publish.errors import Conflict, IncompleteSet
from ci.publish.ledgers import (
    BeingRemoved,
    complete,
    is_removed,
    list_nightly,
    list_release,
    move_nightly,
    set_status,
    take_back,
)
from ci.publish.signed import Signer, check_key, sign
from ci.publish.view import View, unit_pages
from ci.store import Body, NotFound, Store

if TYPE_CHECKING:
    from ci.wheel.reader import WheelFile

Clock = Callable[[], datetime]
Report = Callable[[str], None]


LONGEST = 500  # characters of a reason: what `ci.index.fields.LINE` allows


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


def silent(step: str) -> None:
    """A `Report` that does nothing."""


@dataclass(frozen=True)
class PublishResult:
    """The result of a publication."""

    unit: Unit
    created: tuple[str, ...]  # new write-once keys
    pages: tuple[str, ...]  # changed pages and aliases
    is_nightly: bool  # whether `nightly/` has this commit now


def publish(
    store: Store,
    wheels: Sequence[WheelFile],
    commit: Commit,
    matrix: Matrix,
    *,
    release: bool = False,
    reused_from: Optional[Mapping[str, str]] = None,
    sdist: Optional[Path] = None,
    attachments: Sequence[Path] = (),
    signer: Optional[Signer] = None,
    clock: Clock = utc_now,
    report: Report = silent,
) -> PublishResult:
    """Publishes the complete set of wheels of a commit, or with `release` those of a release.

    reused_from: variant → the commit that compiled its native code.
    sdist: for a release; the default variant's index lists it.
    attachments: files to publish beside the wheels that are not installed.
    signer: signs the ledgers; required once the index has been signed.
    report: called with each step.
    Raises IncompleteSet (and records why), Conflict, PublishError and StoreError. Once the cause is
    gone, the same call continues where it stopped.
    """
    now = plan.instant(clock())
    beside = {path.name: Body.file(path) for path in attachments}
    if not release:
        beside.update(of_commit(wheels, commit, matrix))
    source = (sdist.name, Body.file(sdist)) if sdist else None
    try:
        if not release:
            beside.update(symbols_of(wheels))
        unit = plan.unit(
            wheels,
            commit,
            matrix,
            now,
            release=release,
            reused_from=reused_from,
            sdist=source,
            attachments=[Attachment(n, body.sha256, body.size) for n, body in beside.items()],
        )
    except IncompleteSet as error:
        if not release:
            fail(store, commit, error.what, clock=clock)
        raise
    manifest = manifests.of_matrix(unit, matrix)
    files = _files(unit, wheels, source, beside)

    report("compare with what is there")
    view = View(store)
    # Every object that will be written is looked at first; `View` explains why.
    view.see(unit.prefix, *(pages.RELEASES if release else pages.NIGHTLIES))
    view.look([pages.HOME])
    check_key(view, signer)
    there = {key for key in (*files, manifest_key(unit.name)) if view.entry(key)}
    manifest = _check_against(store, manifest, files, there)
    if manifest_key(unit.name) not in there:
        if not release:
            _begin_upload(view, unit, commit, clock)
        report("upload")
    # Existing files were compared; if a key exists, its other addresses do too.
    missing = {key: body for key, body in files.items() if key not in there}
    created = [key for key, body in missing.items() if view.ensure(key, body)]
    report("commit")
    if manifest_key(unit.name) not in there:
        manifest = _commit(view, manifest, created)
    try:
        result = _list(view, manifest, matrix.nightlies, created, clock, report)
    except BeingRemoved:
        if signer is not None:  # it was taken back, and the ledgers have new serials
            sign(view, signer, clock())
        raise
    if signer is not None:
        report("sign the ledgers")
        sign(view, signer, clock())
    return result


def check_variants(store: Store, commit: Commit, matrix: Matrix) -> None:
    """Raises Conflict if the commit was published with variants other than those of `matrix`.

    Called before a build, which takes minutes: the manifest fixes a commit's variants for good.
    """
    key = manifest_key(commit.sha)
    try:
        found = manifests.parse(store.get(key).body, f"{key} in {store.name}")
    except NotFound:
        return
    here = {cuda.variant for cuda in matrix.cudas}
    if here == set(found.variants):
        return
    asked = [f" --also {name}" for name, each in sorted(found.variants.items()) if each.on_request]
    raise Conflict(
        f"commit {commit.sha} was published with {', '.join(sorted(found.variants))}, "
        f"not {', '.join(sorted(here))}",
        means="a manifest is written once, so a commit's variants cannot change later",
        do=f"repeat it as it was ({''.join(asked).strip() or 'without --also'}), or use the "
        "next commit",
    )


def begin(store: Store, commit: Commit, *, clock: Clock = utc_now) -> None:
    """Records in the bucket that this commit is being built; a complete one stays complete."""
    _announce(View(store), commit, State.PENDING, "", clock)


def fail(store: Store, commit: Commit, reason: str, *, clock: Clock = utc_now) -> None:
    """Records in the bucket why this commit has no wheels; a complete one stays complete."""
    _announce(View(store), commit, State.FAILED, plan.line(reason, LONGEST), clock)


def _announce(
    view: View, commit: Commit, state: State, reason: str, clock: Clock, *, revives: bool = False
) -> CommitStatus:
    if not view.knows(pages.HOME):
        view.look([pages.HOME])
    time = plan.commit_time(commit)
    status = CommitStatus(
        commit.sha,
        commit.number,
        time,
        state,
        reason,
        plan.instant(clock()),
        subject=plan.line(commit.subject),
    )
    written = set_status(view, status, revives=revives)
    view.refresh([pages.HOME], lambda: pages.home(view.read_all()))
    return written


def _files(
    unit: Unit,
    wheels: Sequence[WheelFile],
    source: Optional[tuple[str, Body]],
    beside: Mapping[str, Body],
) -> dict[str, Body]:
    """Key → body of every write-once file of a unit, but for the manifest, in order of writing."""
    files = {}
    for wheel in wheels:
        key = unit.prefix + wheel.path.name
        files[key] = Body(wheel.path, wheel.sha256, wheel.size)
        files[f"{key}.metadata"] = Body.of(wheel.metadata)
    if source:
        files[unit.prefix + source[0]] = source[1]
    # After the wheels, because lock files link to them.
    files.update({unit.prefix + name: body for name, body in beside.items()})
    return files


def _begin_upload(view: View, unit: Unit, commit: Commit, clock: Clock) -> None:
    """Records that a commit is pending. Raises BeingRemoved for one that `prune` removes."""
    view.expect_missing(records.status(unit.name))
    # What `prune` has left of a commit may be what it is still removing.
    left = view.below(unit.prefix) - {records.status_key(unit.name)}
    status = _announce(view, commit, State.PENDING, "", clock, revives=not left)
    if status.state is State.PRUNED:
        raise BeingRemoved(view, unit.name)


def _check_against(
    store: Store, manifest: Manifest, files: Mapping[str, Body], there: set[str]
) -> Manifest:
    """The manifest to publish; raises Conflict before anything is written."""
    for key, body in files.items():
        if key in there:
            access.check_same(store, key, body.sha256)
    if manifest_key(manifest.unit.name) in there:
        return _published_already(store, manifest)
    return manifest


def _published_already(store: Store, manifest: Manifest) -> Manifest:
    key = manifest_key(manifest.unit.name)
    found = manifests.parse(store.get(key).body, f"{key} in {store.name}")
    if not manifests.same_but_for_time(manifest, found):
        raise Conflict(
            f"{key} exists in {store.name} and describes another set of files",
            means="this commit was already published, with other files or from another matrix",
            do="compare: python -m ci status " + manifest.unit.name,
        )
    return found


def _commit(view: View, manifest: Manifest, created: list[str]) -> Manifest:
    """Writes the manifest, or returns the existing one with its earlier time of publication."""
    key = manifest_key(manifest.unit.name)
    try:
        if view.ensure(key, Body.of(manifests.dump(manifest))):
            created.append(key)
        return manifest
    except Conflict:
        return _published_already(view.store, manifest)


def _require_kept(view: View, unit: Unit, clock: Clock) -> None:
    """Records that a commit is complete, before anything links to it; raises BeingRemoved.

    `prune` marks an unfinished commit by the same record, so one of the two comes first.
    """
    status = set_status(view, complete(unit, plan.instant(clock())))
    if status.state is State.PRUNED:
        raise BeingRemoved(view, unit.name)


def _list(
    view: View,
    manifest: Manifest,
    limit: int,
    created: Sequence[str],
    clock: Clock,
    report: Report,
) -> PublishResult:
    """Adds a complete unit to ledgers and pages; every step skips itself if it is done.

    Raises BeingRemoved for a commit that `prune` removes.
    """
    unit = manifest.unit
    if not unit.release:
        _require_kept(view, unit, clock)
    own = view.refresh(
        pages.of_unit(manifest, Yanked()),
        lambda: unit_pages(view, manifest),
    )
    report("write the ledgers and pages")
    if unit.release:
        known = Records(releases=list_release(view, manifest))
        render = pages.after_release
    else:
        before = view.read(records.NIGHTLY)
        known = Records(
            nightlies=list_nightly(view, manifest, limit),
            nightly=move_nightly(view, manifest),
        )
        render = pages.after_commit
        # One that is new is too young for `prune`.
        if manifest_key(unit.name) not in created and is_removed(view, unit.name):
            take_back(view, unit, before)
            view.refresh(render(view.read_all()), lambda: render(view.read_all()))
            raise BeingRemoved(view, unit.name)
    # `known` has all variants, and so determines which pages exist.
    shared = view.refresh(render(known), lambda: render(view.read_all()))
    report("copy the newest commit's wheels to nightly/")
    aliases = alias_nightly(view)
    nightly = view.read(records.NIGHTLY).unit
    is_nightly = nightly is not None and nightly.name == unit.name
    return PublishResult(unit, tuple(created), (*own, *shared, *aliases), is_nightly)
