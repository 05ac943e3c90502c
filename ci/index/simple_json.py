"""PEP 691 pages, with the additions of PEPs 592, 700, 714 and 792."""

from __future__ import annotations

import json
from typing import Any

from ci.index.simple import API_VERSION, Link, ProjectPage


def project(page: ProjectPage) -> bytes:
    return _dump(
        {
            "meta": {"api-version": API_VERSION, "_last-serial": page.serial},
            "name": page.project,
            "project-status": {"status": "active"},
            "versions": list(page.versions),
            "files": [_file(link) for link in page.links],
        }
    )


def root(project: str) -> bytes:
    """The root page of an index with one project."""
    return _dump({"meta": {"api-version": API_VERSION}, "projects": [{"name": project}]})


def _file(link: Link) -> dict[str, Any]:
    file = link.file
    entry: dict[str, Any] = {
        "filename": file.name,
        "url": link.href,
        "hashes": {"sha256": file.sha256},
        "size": file.size,
        "upload-time": link.uploaded,
        "yanked": False if link.yanked is None else link.yanked or True,
    }
    if file.requires_python:
        entry["requires-python"] = file.requires_python
    if file.metadata_sha256:
        # Not under the older name too, as in HTML: pip 22.3 to 23.1 crash on it (PEP 714).
        entry["core-metadata"] = {"sha256": file.metadata_sha256}
    return entry


def _dump(page: dict[str, Any]) -> bytes:
    return json.dumps(page, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"
