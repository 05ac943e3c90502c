"""Pages for people about one unit: its files in a table that needs no script."""

from __future__ import annotations

from ci import names
from ci.index.manifest import Unit
from ci.index.records import Nightly, Yanked
from ci.index.templates import render


def of_unit(unit: Unit, yanked: Yanked) -> bytes:
    """The listing of a commit's or a release's own folder."""
    title = f"vllm {unit.name}" if unit.release else f"vllm commit {unit.name}"
    return _page(title, unit.prefix, unit, yanked, yanked.serial(unit.name))


def of_nightly(nightly: Nightly, unit: Unit, yanked: Yanked) -> bytes:
    """The listing of ``nightly/``: `unit` is what it is now."""
    serial = nightly.ledger.serial + yanked.serial(unit.name)
    return _page("vllm nightly", f"{names.NIGHTLY}/", unit, yanked, serial)


def _page(title: str, folder: str, unit: Unit, yanked: Yanked, serial: int) -> bytes:
    return render(
        "unit.html",
        title=title,
        folder=folder,
        unit=unit,
        yanked=yanked.reason(unit.name),
        serial=serial,
    )
