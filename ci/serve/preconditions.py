"""Conditional requests, evaluated in the order of RFC 9110, section 13."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Optional

from starlette.datastructures import Headers

# The three forms of a date that a client may send; we send the first.
_DATES = ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y")
_TAG = re.compile(r'\s*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")\s*(?:,|$)|\s*,')


class Answer(Enum):
    """The outcome of a request's preconditions for an existing object."""

    SEND = 200
    NOT_MODIFIED = 304
    FAILED = 412


@dataclass(frozen=True)
class Validators:
    """The validators of an object's version. The ETag is strong, and includes its quotes."""

    etag: str
    modified: datetime  # UTC

    def answer(self, headers: Headers) -> Answer:
        """Evaluates all preconditions except If-Range."""
        if (tags := field(headers, "if-match")) is not None:
            if not self._is_among(tags, strong=True):
                return Answer.FAILED
        elif (date := parse_date(field(headers, "if-unmodified-since"))) and self._since(date):
            return Answer.FAILED
        if (tags := field(headers, "if-none-match")) is not None:
            return Answer.NOT_MODIFIED if self._is_among(tags, strong=False) else Answer.SEND
        date = parse_date(field(headers, "if-modified-since"))
        return Answer.NOT_MODIFIED if date and not self._since(date) else Answer.SEND

    def range_applies(self, headers: Headers) -> bool:
        """Whether a Range header applies: If-Range is absent, or matches this version."""
        wanted = field(headers, "if-range")
        if wanted is None or wanted == self.etag:
            return True
        date = parse_date(wanted)
        # A younger version may be replaced within the same second, so its date is a weak validator.
        is_strong = datetime.now(timezone.utc) - self._whole > timedelta(seconds=60)
        return date == self._whole and is_strong

    @property
    def _whole(self) -> datetime:
        return self.modified.replace(microsecond=0)

    def _since(self, date: datetime) -> bool:
        return self._whole > date

    def _is_among(self, tags: str, *, strong: bool) -> bool:
        if tags.strip() == "*":
            return True
        known = _entity_tags(tags)
        return self.etag in (known if strong else [tag.removeprefix("W/") for tag in known])


def field(headers: Headers, name: str) -> Optional[str]:
    """The value of a header field; several lines are joined to one list."""
    lines = headers.getlist(name)
    return ", ".join(lines) if lines else None


def parse_date(value: Optional[str]) -> Optional[datetime]:
    """A date in one of HTTP's three formats; None for others, which must be ignored."""
    for form in _DATES if value else ():
        try:
            return datetime.strptime((value or "").strip(), form).replace(tzinfo=timezone.utc)
        except ValueError:
            continue
    return None


def _entity_tags(value: str) -> list[str]:
    """The entity tags of a list; commas may occur within one. Empty if malformed."""
    found, at = [], 0
    while at < len(value):
        match = _TAG.match(value, at)
        if match is None:
            return []
        if match[1]:
            found.append(match[1])
        at = match.end()
    return found
