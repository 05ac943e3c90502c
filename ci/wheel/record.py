"""RECORD: the sha256 and size of every member of a wheel.

`installer.records` reads it as well. But a source build that takes published native files reads
wheels too (`backend/precompiled.py`), among packages that have no `installer`; and what is written
has to be the same bits.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass

from ci.wheel.archive import Member


@dataclass(frozen=True)
class Entry:
    """A row of RECORD; its own row has neither hash nor size."""

    name: str
    sha256: str  # "sha256=" and urlsafe base64 without padding, or ""
    size: str


def digest(data: bytes) -> str:
    """The hash of `data` as RECORD writes it."""
    encoded = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"sha256={encoded}"


def render(members: Iterable[Member], own_name: str) -> bytes:
    """The content of RECORD for `members`, which do not include RECORD itself."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerows((member.name, digest(member.data), len(member.data)) for member in members)
    rows.writerow((own_name, "", ""))
    return text.getvalue().encode()


def parse(data: bytes) -> list[Entry]:
    """The rows of a RECORD. Raises ValueError for a row without three columns."""
    try:
        rows = list(csv.reader(io.StringIO(data.decode())))
    except csv.Error as error:
        raise ValueError(f"it is not CSV: {error}") from error
    for number, row in enumerate(rows, start=1):
        if len(row) != 3:
            raise ValueError(f"line {number} has {len(row)} columns, expected 3")
    return [Entry(*row) for row in rows]
