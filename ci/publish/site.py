"""Publishes the documentation of a commit as static files beside its wheels, and links to it."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Optional

from ci import names
from ci.index import pages, records
from ci.index.manifest import Manifest, prefix_of
from ci.index.records import CommitStatus, State
from ci.publish import access
from ci.publish.care import NotPublished, find
from ci.publish.errors import PublishError
from ci.publish.ledgers import BeingRemoved
from ci.publish.view import View, unit_pages
from ci.store import Body, Store
from ci.store.keys import INDEX

FOLDER = "docs/"
AT_ONCE = 8  # concurrent uploads


@dataclass(frozen=True)
class SiteResult:
    """What was published, and its address."""

    unit: str
    address: str  # relative to the bucket
    files: int
    created: int  # new files


def publish_site(
    store: Store, commit: str, site: Path, report: Callable[[str], None]
) -> SiteResult:
    """Publishes the folder `site` as the documentation of a published commit; write-once.

    index.html is uploaded last, and linked after that, so no reader finds half a site.
    Raises NotPublished for a commit without wheels, Conflict if a different site was published for
    it, and PublishError if `site` is not a built site.
    """
    manifest = find(store, commit)
    prefix = prefix_of(commit) + FOLDER
    bodies = {prefix + name: Body.file(site / name) for name in files_of(site)}
    there = {entry.key: entry for entry in store.scan(prefix)}
    first = prefix + INDEX
    for key in bodies.keys() & there.keys():
        access.check_same(store, key, bodies[key].sha256)
    missing = sorted(bodies.keys() - there.keys() - {first})
    report(f"upload {len(missing)} files")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda key: access.ensure(store, key, bodies[key]), missing))
    created = len(missing) + bool(access.ensure(store, first, bodies[first]))
    report("link to it")
    _link(View(store), manifest)
    return SiteResult(commit, prefix, len(bodies), created)


def files_of(site: Path) -> Iterable[str]:
    """The relative paths of a site's files, without the generator's hidden ones.

    Raises PublishError for a folder without index.html.
    """
    if not (site / INDEX).is_file():
        raise PublishError(
            f"{site} has no {INDEX}",
            means="the documentation has not been built",
            do="build it: make site",
        )
    found = (path.relative_to(site) for path in sorted(site.rglob("*")) if path.is_file())
    return [path.as_posix() for path in found if not any(p.startswith(".") for p in path.parts)]


def _link(view: View, manifest: Manifest) -> None:
    """From the list of commits, the commit's own page and, if it is that, the nightly's."""
    commit = manifest.unit.name
    of_nightly = f"{names.NIGHTLY}/{INDEX}"
    keys = [pages.HOME, manifest.unit.prefix + INDEX]
    view.look(address for key in (*keys, of_nightly) for address in (*view.store.aliases(key), key))

    def change(old: Optional[CommitStatus]) -> Optional[CommitStatus]:
        if old is not None and old.state is State.PRUNED:
            raise BeingRemoved(view, commit)
        return replace(old, docs=True) if old is not None and not old.docs else old

    status = view.update(records.status(commit), change)
    if status is None:
        raise NotPublished(f"{commit} has no status", do=f"python -m ci status {commit}")
    view.update(records.COMMITS, lambda commits: commits.with_status(status))
    # Read after the ledger was written: who makes this commit the nightly later reads that.
    nightly = view.read(records.NIGHTLY).unit
    if nightly is not None and nightly.name == commit:
        keys.append(of_nightly)
    view.refresh(keys, lambda: {**pages.shared(view.read_all()), **unit_pages(view, manifest)})
