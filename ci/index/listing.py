"""Pages for people: what a folder holds, in a table that needs no script."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from ci import names
from ci.index.manifest import Unit
from ci.index.records import Nightly, Yanked
from ci.index.simple import relative

if TYPE_CHECKING:
    from ci.index.pages import Records


def unit(unit: Unit, yanked: Yanked) -> bytes:
    """The listing of one commit's or release's own folder."""
    title = f"vllm {unit.version} · {unit.name}"
    return _page(title, _files(unit.prefix, unit, yanked), yanked.serial(unit.name))


def nightly(nightly: Nightly, unit: Unit, yanked: Yanked) -> bytes:
    return _page(
        f"vllm nightly · {unit.name}",
        _files(f"{names.NIGHTLY}/", unit, yanked),
        nightly.ledger.serial + yanked.serial(unit.name),
    )


def home(state: Records) -> bytes:
    body = "".join(
        f"<li>{escape(entry.unit)} {entry.state.value} {escape(entry.reason)}</li>\n"
        for entry in state.commits.entries
    )
    return _page("vllm wheels", f"<ul>{body}</ul>", 0)


def _files(folder: str, unit: Unit, yanked: Yanked) -> str:
    return "".join(
        f'<li><a href="{relative(folder, unit.prefix + file.name)}">{escape(file.name)}</a></li>\n'
        for file in unit.files
    )


def _page(title: str, body: str, serial: int) -> bytes:
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{escape(title)}</title>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n{body}"
        f"</body>\n</html>\n<!--SERIAL {serial}-->\n"
    ).encode()
