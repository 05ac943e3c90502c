"""An Atom feed of nightlies (RFC 4287), and badges with their versions."""

from __future__ import annotations

from ci import names
from ci.index.listing import cuda_name
from ci.index.manifest import Unit
from ci.index.records import Nightly, Records
from ci.index.templates import render

ENTRIES = 50
# Badges are rendered without font metrics: about the width of a digit at 11 pixels.
LETTER, MARGIN = 7, 10


def of_nightlies(state: Records) -> bytes:
    """The newest commits with wheels. An entry's id never changes; a yank changes its title."""
    units = state.nightlies.units[:ENTRIES]
    return render(
        "feed.xml",
        units=units,
        yanked=state.yanked,
        updated=max(unit.published for unit in units),
        source=names.SOURCE,
        serial=state.nightlies.serial + sum(yank.serial for yank in state.yanked.units.values()),
    )


def badges(nightly: Nightly, unit: Unit) -> dict[str, bytes]:
    """File name → SVG: the version of the nightly, for each variant that every commit has."""
    found = {}
    for variant, listed in nightly.ledger.variants.items():
        if listed.on_request:  # a later commit may lack it, and its badge would stay
            continue
        files = unit.of_variant(variant, nightly.ledger.default)
        version = next((file.version for file in files if ".dev" in file.version), None)
        if version is not None:
            label, value = f"vllm, {cuda_name(variant)}", version.partition("+")[0]
            found[f"{variant}.svg"] = _badge(label, value, nightly.ledger.serial)
    return found


def _badge(label: str, value: str, serial: int) -> bytes:
    left, right = (LETTER * len(text) + MARGIN for text in (label, value))
    shown = {"label": label, "value": value, "left": left, "right": right}
    return render("badge.svg", **shown, serial=serial)
