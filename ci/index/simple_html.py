"""PEP 503 pages, with what 592, 629, 658, 714 and 792 add to them."""

from __future__ import annotations

from html import escape

from ci.index.simple import API_VERSION, Link, ProjectPage

_HEAD = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="pypi:repository-version" content="{API_VERSION}">
"""


def project(page: ProjectPage) -> bytes:
    title = f"Links for {escape(page.project)}"
    lines = [
        f'{_HEAD}<meta name="pypi:project-status" content="active">',
        f"<title>{title}</title>\n</head>\n<body>\n<h1>{title}</h1>",
        *(_anchor(link) for link in page.links),
        f"</body>\n</html>\n<!--SERIAL {page.serial}-->\n",
    ]
    return "\n".join(lines).encode("utf-8")


def root(project: str) -> bytes:
    """The root of an index that holds one project."""
    name = escape(project)
    return (
        f"{_HEAD}<title>Simple index</title>\n</head>\n<body>\n"
        f'<a href="{name}/">{name}</a>\n</body>\n</html>\n'
    ).encode()


def _anchor(link: Link) -> str:
    attributes = {"href": f"{link.href}#sha256={link.file.sha256}"}
    if link.file.requires_python:
        attributes["data-requires-python"] = link.file.requires_python
    if link.file.metadata_sha256:
        # The second name is what installers before PEP 714 look for.
        attributes["data-core-metadata"] = f"sha256={link.file.metadata_sha256}"
        attributes["data-dist-info-metadata"] = f"sha256={link.file.metadata_sha256}"
    if link.yanked is not None:
        attributes["data-yanked"] = link.yanked
    text = " ".join(f'{name}="{escape(value)}"' for name, value in attributes.items())
    return f"<a {text}>{escape(link.file.name)}</a><br>"
