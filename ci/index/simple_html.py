"""PEP 503 pages, with the additions of PEPs 592, 629, 658, 714 and 792."""

from __future__ import annotations

from ci.index.simple import API_VERSION, Link, ProjectPage
from ci.index.templates import render


def project(page: ProjectPage) -> bytes:
    return render("simple_project.html", page=page, api_version=API_VERSION, attributes=_attributes)


def root(project: str) -> bytes:
    """The root page of an index with one project."""
    return render("simple_root.html", project=project, api_version=API_VERSION)


def _attributes(link: Link) -> dict[str, str]:
    attributes = {"href": f"{link.href}#sha256={link.file.sha256}"}
    if link.file.requires_python:
        attributes["data-requires-python"] = link.file.requires_python
    if link.file.metadata_sha256:
        # The second name is for installers older than PEP 714.
        attributes["data-core-metadata"] = f"sha256={link.file.metadata_sha256}"
        attributes["data-dist-info-metadata"] = f"sha256={link.file.metadata_sha256}"
    if link.yanked is not None:
        attributes["data-yanked"] = link.yanked
    return attributes
