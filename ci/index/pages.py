"""All pages and their bytes: the whole index as a function of its records."""

from __future__ import annotations

from ci import names
from ci.index import feed, listing, simple_html, simple_json
from ci.index import home as home_page
from ci.index.manifest import Manifest
from ci.index.records import Ledger, Records, Yanked
from ci.index.simple import project_page

HOME = "index.html"
# Prefixes of the shared pages other than HOME: of releases, of nightlies, of both.
RELEASES = ("whl/",)
NIGHTLIES = ("whl/", f"{names.NIGHTLY}/")  # with the signatures
SHARED = ("whl/", f"{names.NIGHTLY}/")


def shared(state: Records) -> dict[str, bytes]:
    """Key → bytes of the pages that belong to no single unit."""
    return {**of_releases(state), **of_nightlies(state), **home(state)}


def after_commit(state: Records) -> dict[str, bytes]:
    """The shared pages that a new commit can change."""
    return {**of_nightlies(state), **home(state)}


def after_release(state: Records) -> dict[str, bytes]:
    """The shared pages that a new release can change."""
    return {**of_releases(state), **home(state)}


def of_releases(state: Records) -> dict[str, bytes]:
    return _indexes("whl/", state.releases, state.yanked)


def of_nightlies(state: Records) -> dict[str, bytes]:
    pages = {
        **_indexes("whl/nightly/", state.nightlies, state.yanked, development_only=True),
        **_indexes(f"{names.NIGHTLY}/", state.nightly.ledger, state.yanked),
    }
    if state.nightly.unit:
        key = f"{names.NIGHTLY}/index.html"
        unit = state.nightly.unit
        docs = any(entry.docs for entry in state.commits.commits if entry.unit == unit.name)
        pages[key] = listing.of_nightly(state.nightly, unit, state.yanked, docs=docs)
        for name, badge in feed.badges(state.nightly, state.nightly.unit).items():
            pages[f"{names.NIGHTLY}/{name}"] = badge
        if state.nightlies.units:
            pages[f"{names.NIGHTLY}/feed.xml"] = feed.of_nightlies(state)
    return pages


def home(state: Records) -> dict[str, bytes]:
    return {HOME: home_page.home(state)}


def of_unit(manifest: Manifest, yanked: Yanked, *, docs: bool = False) -> dict[str, bytes]:
    """The pages in the folder of a commit or a release; `docs`: link to its documentation."""
    unit = manifest.unit
    pages = {f"{unit.prefix}index.html": listing.of_unit(unit, yanked, docs=docs)}
    if not unit.release:  # for one release, use the index of releases with an exact pin
        ledger = Ledger.of_one(unit, manifest.listed)
        pages.update(_indexes(unit.prefix, ledger, yanked))
    return pages


def _indexes(
    folder: str, ledger: Ledger, yanked: Yanked, *, development_only: bool = False
) -> dict[str, bytes]:
    """One simple index for each variant, below `folder`: its root and its one project."""
    pages = {}
    for variant in ledger.variants:
        root = f"{folder}{variant}/"
        page = project_page(
            f"{root}{names.PROJECT}/",
            variant,
            ledger.default,
            ledger.units,
            yanked,
            ledger.serial,
            development_only=development_only,
        )
        pages[f"{root}{names.PROJECT}/index.html"] = simple_html.project(page)
        pages[f"{root}{names.PROJECT}/index.json"] = simple_json.project(page)
        pages[f"{root}index.html"] = simple_html.root(names.PROJECT)
        pages[f"{root}index.json"] = simple_json.root(names.PROJECT)
    return pages
