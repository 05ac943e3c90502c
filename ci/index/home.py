"""The page at ``/``: a form that gives the install command, and a table of recent commits.

Its template, style and script are in `templates/`. Without JavaScript it is a listing; with it,
commands are built from the page's own URL, so the same bytes can be served from any host.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Collection, Mapping, Optional

from markupsafe import Markup

from ci import names
from ci.index.listing import TORCH_INDEX
from ci.index.manifest import File, ListedVariant, Unit
from ci.index.records import CommitStatus, Records, State
from ci.index.templates import render


def home(state: Records) -> bytes:
    """Renders the page from all records."""
    listed = state.nightlies.units
    units = {unit.name: unit for unit in listed}
    before = {newer.name: older for newer, older in zip(listed, listed[1:])}
    serial = (
        state.releases.serial
        + state.nightlies.serial
        + state.nightly.ledger.serial
        + state.commits.serial
        + sum(yank.serial for yank in state.yanked.units.values())
    )
    return render(
        "home.html",
        choices=_inline_json(_choices(state)),
        commits=[
            _row(entry, units.get(entry.unit), before.get(entry.unit), state)
            for entry in _shown(state)
        ],
        releases=state.releases.units,
        yanked=state.yanked,
        has_nightly=state.nightly.unit is not None,
        docs=next((entry.unit for entry in _shown(state) if entry.docs), None),
        serial=serial,
    )


@dataclass(frozen=True)
class _Row:
    """A row of the table; `unit` has the commit's files, if it is listed."""

    commit: str
    number: int
    time: str
    words: tuple[str, ...]  # badges
    why: str
    unit: Optional[Unit]
    subject: str
    size: Optional[int]  # bytes of its default wheel
    grown: Optional[int]  # growth since the listed commit before
    docs: bool


def _row(entry: CommitStatus, unit: Optional[Unit], before: Optional[Unit], state: Records) -> _Row:
    nightly = state.nightly.unit
    yanked = state.yanked.reason(entry.unit)
    words = [entry.state.value]
    if nightly and nightly.name == entry.unit:
        words.append("nightly")
    if yanked is not None:
        words.append("yanked")
    why = " ".join(filter(None, (entry.reason, yanked)))
    size, size_before = _size(unit, state), _size(before, state)
    grown = size - size_before if size is not None and size_before is not None else None
    return _Row(
        entry.unit,
        entry.number,
        entry.time,
        tuple(words),
        why,
        unit,
        unit.change.subject if unit and unit.change else entry.subject,
        size,
        grown,
        entry.docs,
    )


def _size(unit: Optional[Unit], state: Records) -> Optional[int]:
    """The bytes of the default variant's abi3 wheel."""
    default = state.nightlies.default
    files = unit.of_variant(default, default) if unit else ()
    return next((file.size for file in files if ".dev" not in file.version), None)


def _shown(state: Records) -> list[CommitStatus]:
    return [entry for entry in state.commits.commits if entry.state is not State.PRUNED]


def _choices(state: Records) -> dict[str, Any]:
    """The choices for the script: channel → variant → files, with relative URLs."""
    variants = {**state.releases.variants, **state.nightlies.variants}
    nightly = state.nightly.unit
    fine = [u for u in state.releases.units if state.yanked.reason(u.name) is None]
    channels: dict[str, dict[str, Any]] = {}
    if fine:
        channels["release"] = _channel(fine[0], variants)
    if nightly:
        aliased = {file.name for file in state.nightly.aliased}
        channels["nightly"] = _channel(nightly, variants, aliased)
    return {
        "channels": channels,
        "commits": {unit.name: _channel(unit, variants) for unit in _recent(state)},
        "torch": {name: TORCH_INDEX + name for name, each in variants.items() if not each.default},
    }


def _recent(state: Records) -> list[Unit]:
    shown = {entry.unit for entry in state.commits.commits}
    return [unit for unit in state.nightlies.units if unit.name in shown]


def _channel(
    unit: Unit, variants: Mapping[str, ListedVariant], aliased: Collection[str] = ()
) -> dict[str, dict[str, str]]:
    """Variant → Python ("any", "3.10", "any aarch64") → relative URL of the wheel.

    aliased: names of the wheels that ``nightly/`` has copies of; others link to the commit.
    """
    default = next((name for name, listed in variants.items() if listed.default), "")
    found: dict[str, dict[str, str]] = {}
    for variant in sorted(variants, key=lambda name: (name != default, name)):
        files = [f for f in unit.of_variant(variant, default) if f.tags and ".dev" not in f.version]
        if files:
            found[variant] = {
                _python(file): (f"{names.NIGHTLY}/" if file.name in aliased else unit.prefix)
                + file.name
                for file in files
            }
    return found


def _python(file: File) -> str:
    """The Python of a wheel: "3.10" for cp310-cp310, "any" for abi3, "any aarch64" on Arm."""
    python, abi, platform = file.tags[0].split("-")
    name = "any" if abi == "abi3" else f"{python[2]}.{python[3:]}"
    return f"{name} aarch64" if platform.endswith("_aarch64") else name


def _inline_json(value: Any) -> Markup:
    """JSON that is safe inside a script element."""
    return Markup(json.dumps(value, separators=(",", ":")).replace("<", "\\u003c"))
