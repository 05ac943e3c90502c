"""Chooses the representation of a simple page by the Accept header (PEP 691)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from ci.store.keys import SIMPLE_HTML, SIMPLE_JSON

HTML = "text/html"
_LATEST_JSON = "application/vnd.pypi.simple.latest+json"
_LATEST_HTML = "application/vnd.pypi.simple.latest+html"

# In order of preference for a client that accepts several equally. A browser also sends `*/*`, and
# gets HTML.
_OFFERED = (
    (HTML, "index.html", HTML + "; charset=utf-8"),
    (SIMPLE_JSON, "index.json", SIMPLE_JSON),
    (_LATEST_JSON, "index.json", SIMPLE_JSON),
    (SIMPLE_HTML, "index.html", SIMPLE_HTML),
    (_LATEST_HTML, "index.html", SIMPLE_HTML),
)


@dataclass(frozen=True)
class Representation:
    """A representation (RFC 9110) of a simple page: its file and Content-Type."""

    name: str
    content_type: str


def choose(accept: Optional[str]) -> Optional[Representation]:
    """The representation that the client prefers; None if it accepts none of ours (406)."""
    ranges = _ranges(accept or "*/*")
    scored = [(_quality(ranges, media), -place) for place, (media, _, _) in enumerate(_OFFERED)]
    quality, place = max(scored)
    if quality == 0:
        return None
    _, name, content_type = _OFFERED[-place]
    return Representation(name, content_type)


def _ranges(accept: str) -> dict[str, float]:
    """The media ranges of an Accept header with their weights; a malformed weight is 0."""
    found = {}
    for item in accept.split(","):
        media, *parameters = (part.strip() for part in item.split(";"))
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "q":
                weight = float(value) if _is_weight(value.strip()) else 0.0
        found[media.lower()] = weight
    return found


def _is_weight(value: str) -> bool:
    return value.replace(".", "", 1).isdigit() and value.isascii() and 0 <= float(value) <= 1


def _quality(ranges: dict[str, float], media: str) -> float:
    """The weight of the most specific range that covers `media`."""
    family = media.split("/")[0] + "/*"
    return next((ranges[name] for name in (media, family, "*/*") if name in ranges), 0.0)
