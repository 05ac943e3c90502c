"""The page at ``/``: choose what to install, get the command; below it, every recent commit.

Its template, style and script lie beside this file. Without the script it is a listing; with it,
the commands are made from the page's own address, so the same bytes serve from any host.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, Iterable, Mapping, Optional

from ci import names
from ci.index.listing import files_table, moment, reference
from ci.index.manifest import File, Unit
from ci.index.records import State, Status

if TYPE_CHECKING:
    from ci.index.pages import Records

_HERE = Path(__file__).parent
_TEMPLATE = Template((_HERE / "home.html").read_text(encoding="utf-8"))
_STYLE = (_HERE / "style.css").read_text(encoding="utf-8")
_SCRIPT = (_HERE / "home.js").read_text(encoding="utf-8")

# Where the torch of a CUDA version is that PyPI does not have.
TORCH_INDEX = "https://download.pytorch.org/whl/"


def home(state: Records) -> bytes:
    """The page, of every record there is."""
    units = {unit.name: unit for unit in state.nightlies.units}
    serial = (
        state.releases.serial
        + state.nightlies.serial
        + state.nightly.ledger.serial
        + state.commits.serial
        + sum(yank.serial for yank in state.yanked.units.values())
    )
    return _TEMPLATE.substitute(
        style=_STYLE,
        script=_SCRIPT,
        choices=_inline_json(_choices(state)),
        commits="".join(_commit(entry, units.get(entry.unit), state) for entry in _entries(state)),
        releases="".join(_release(unit, state) for unit in state.releases.units)
        or "<p>No release yet.</p>",
        serial=serial,
    ).encode("utf-8")


def _entries(state: Records) -> Iterable[Status]:
    return [entry for entry in state.commits.entries if entry.state is not State.PRUNED]


def _choices(state: Records) -> dict[str, Any]:
    """What the script offers: channel → variants → files, each with its address from here."""
    variants = {**state.releases.variants, **state.nightlies.variants}
    nightly = state.nightly.unit
    fine = [u for u in state.releases.units if state.yanked.reason(u.name) is None]
    channels: dict[str, dict[str, Any]] = {}
    if fine:
        channels["release"] = _channel(fine[0], fine[0].prefix, variants)
    if nightly:
        channels["nightly"] = _channel(nightly, f"{names.NIGHTLY}/", variants)
    return {
        "channels": channels,
        "commits": {unit.name: _channel(unit, unit.prefix, variants) for unit in _recent(state)},
        "torch": {name: TORCH_INDEX + name for name, default in variants.items() if not default},
    }


def _recent(state: Records) -> list[Unit]:
    shown = {entry.unit for entry in state.commits.entries}
    return [unit for unit in state.nightlies.units if unit.name in shown]


def _channel(unit: Unit, folder: str, variants: Mapping[str, bool]) -> dict[str, dict[str, str]]:
    """Variant → Python ("any", "3.10") → the address of the wheel."""
    default = next((name for name, is_default in variants.items() if is_default), "")
    found: dict[str, dict[str, str]] = {}
    for variant in sorted(variants, key=lambda name: (name != default, name)):
        files = [f for f in unit.of_variant(variant, default) if f.tags and ".dev" not in f.version]
        if files:
            found[variant] = {_python(file): folder + file.name for file in files}
    return found


def _python(file: File) -> str:
    """Which Python a wheel is for: "3.10" of cp310-cp310, "any" of an abi3 wheel."""
    python, abi, _ = file.tags[0].split("-")
    return "any" if abi == "abi3" else f"{python[2]}.{python[3:]}"


def _commit(entry: Status, unit: Optional[Unit], state: Records) -> str:
    nightly = state.nightly.unit
    words = [entry.state.value]
    if nightly and nightly.name == entry.unit:
        words.append("nightly")
    yanked = state.yanked.reason(entry.unit)
    if yanked is not None:
        words.append("yanked")
    badges = " ".join(f'<span class="badge {word}">{word}</span>' for word in words)
    why = escape(" ".join(filter(None, (entry.reason, yanked))))
    name = f'<code title="{entry.unit}">{entry.unit[:9]}</code>'
    if unit:
        name = reference("", f"{entry.unit}/", name)
    files = (
        f"<details><summary>{len(unit.files)} files</summary>{files_table('', unit)}</details>"
        if unit
        else ""
    )
    return (
        f'<tr><th scope="row">{name}</th><td data-label="number">{entry.number}</td>'
        f'<td data-label="date">{moment(entry.time)}</td>'
        f'<td data-label="state">{badges} {why}{files}</td></tr>\n'
    )


def _release(unit: Unit, state: Records) -> str:
    yanked = state.yanked.reason(unit.name)
    said = f' <span class="badge yanked">yanked</span> {escape(yanked)}' if yanked else ""
    return (
        f"<details><summary>{escape(unit.name)}, {moment(unit.published)}, "
        f"{len(unit.files)} files{said}</summary>{files_table('', unit)}</details>\n"
    )


def _inline_json(value: Any) -> str:
    """JSON that cannot end the script element that it stands in."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
