"""A simple index as records: which files a page lists, and under which relative links.

One page is one variant's. Links are relative, so the same bytes serve from any address, and `+`
is `%2B` in them: S3 reads a raw one as a space.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Iterable, Optional
from urllib.parse import quote

from ci import names
from ci.index.manifest import File, Unit
from ci.index.records import Yanked

# PEP 792 is the newest that the pages follow; 1.4 includes 691, 700, 708 and 740.
API_VERSION = "1.4"


@dataclass(frozen=True)
class Link:
    """One file of a page."""

    href: str  # relative to the page, quoted, without the hash
    file: File
    uploaded: str
    yanked: Optional[str]  # why, or None


@dataclass(frozen=True)
class ProjectPage:
    """A project of a simple index. `serial` rises with every change of what it says."""

    project: str
    serial: int
    links: tuple[Link, ...]

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions that have a file here, in the order of the files."""
        return tuple(dict.fromkeys(link.file.version for link in self.links))


def project_page(
    folder: str,
    variant: str,
    default: str,
    units: Iterable[Unit],
    yanked: Yanked,
    serial: int,
    *,
    development_only: bool = False,
) -> ProjectPage:
    """The page at `folder` (a key with a slash) for one variant of `units`.

    serial: of the ledger that lists the units; their yanks are added.
    development_only: leave out the versions that every commit has again (``0.5.4``): in an index
    of many commits a version has to name one file.
    """
    links = []
    for unit in units:
        serial += yanked.serial(unit.name)
        for file in unit.of_variant(variant, default):
            if development_only and ".dev" not in file.version:
                continue
            href = relative(folder, unit.prefix + file.name)
            links.append(Link(href, file, unit.published, yanked.reason(unit.name)))
    return ProjectPage(names.PROJECT, serial, tuple(links))


def relative(folder: str, key: str) -> str:
    """The link from a page in `folder` to `key`."""
    return quote(posixpath.relpath("/" + key, "/" + folder), safe="/-._~")
