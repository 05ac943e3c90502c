"""A simple index as records: the files that a page lists, and their relative links.

A page has one variant. Links are relative, so that the same bytes can be served from any address,
with `+` as `%2B`, because S3 reads a raw one as a space.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Iterable, Optional
from urllib.parse import quote

from ci import names
from ci.index.manifest import File, Unit
from ci.index.records import Yanked

# 1.4 is that of PEP 792, and includes 691, 700, 708 and 740.
API_VERSION = "1.4"


@dataclass(frozen=True)
class Link:
    """A file on a page."""

    href: str  # relative to the page, quoted, without the hash
    file: File
    uploaded: str
    yanked: Optional[str]  # why, or None


@dataclass(frozen=True)
class ProjectPage:
    """A project page of a simple index. `serial` rises with every change."""

    project: str
    serial: int
    links: tuple[Link, ...]

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions on this page, in the order of the files."""
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

    serial: of the ledger; those of its units' yanks are added.
    development_only: omit the released version (``0.5.4``), which every commit has: in an index of
    many commits, a version must identify one file.
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
