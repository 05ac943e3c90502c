"""Pages for people about one unit: its files in a table that needs no script."""

from __future__ import annotations

from html import escape
from pathlib import Path

from ci import names
from ci.index.manifest import Unit
from ci.index.records import Nightly, Yanked
from ci.index.simple import relative

_STYLE = Path(__file__).with_name("style.css").read_text(encoding="utf-8")


def of_unit(unit: Unit, yanked: Yanked) -> bytes:
    """The listing of a commit's or a release's own folder."""
    title = f"vllm {unit.name}" if unit.release else f"vllm commit {unit.name}"
    return _page(title, unit.prefix, unit, yanked, yanked.serial(unit.name))


def of_nightly(nightly: Nightly, unit: Unit, yanked: Yanked) -> bytes:
    """The listing of ``nightly/``: `unit` is what it is now."""
    serial = nightly.ledger.serial + yanked.serial(unit.name)
    return _page("vllm nightly", f"{names.NIGHTLY}/", unit, yanked, serial)


def files_table(folder: str, unit: Unit) -> str:
    """The files of a unit, linked from a page in `folder`."""
    rows = [(file.name, file.size, file.sha256) for file in unit.files]
    rows += [(other.name, other.size, other.sha256) for other in unit.attachments]
    cells = "".join(
        f'<tr><th scope="row">{reference(folder, unit.prefix + name, escape(name))}</th>'
        f'<td data-label="size">{size / 1e6:.2f} MB</td>'
        f'<td data-label="sha256"><code>{sha256}</code></td></tr>\n'
        for name, size, sha256 in rows
    )
    head = '<tr><th scope="col">file</th><th scope="col">size</th><th scope="col">sha256</th></tr>'
    return f"<table><thead>{head}</thead><tbody>\n{cells}</tbody></table>"


def reference(folder: str, key: str, html: str) -> str:
    """A link from a page in `folder` to `key`; `html` is its text, escaped already."""
    slash = "/" if key.endswith("/") else ""
    return f'<a href="{escape(relative(folder, key))}{slash}">{html}</a>'


def moment(time: str) -> str:
    """A time of a record, for people and for machines."""
    return f'<time datetime="{time}">{time[:10]} {time[11:16]} UTC</time>'


def _page(title: str, folder: str, unit: Unit, yanked: Yanked, serial: int) -> bytes:
    reason = yanked.reason(unit.name)
    warning = (
        f'<p class="badge yanked">yanked: {escape(reason)}</p>\n' if reason is not None else ""
    )
    up = relative(folder, "index.html")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n{warning}"
        f"<p>vllm {escape(unit.version)}, commit <code>{unit.commit}</code>, number {unit.number}, "
        f"of {moment(unit.time)}; published {moment(unit.published)}.</p>\n"
        f'{files_table(folder, unit)}\n<p><a href="{up}">All wheels</a></p>\n'
        f"</main>\n</body>\n</html>\n<!--SERIAL {serial}-->\n"
    ).encode()
