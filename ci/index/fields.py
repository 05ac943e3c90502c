"""Strict reading of the JSON records that lie in the bucket, and their one way of being written.

A record is trusted by every page, so nothing in it is taken on faith: an unknown field, a wrong
type or a text of the wrong form is refused with the name of the field.
"""

from __future__ import annotations

import json
import re
from typing import Any, Callable, Mapping, Optional, Pattern, TypeVar

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from ci.errors import CiError

SCHEMA = 1

SHA256 = re.compile(r"[0-9a-f]{64}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
COMMIT = re.compile(r"[0-9a-f]{40}")
TIME = re.compile(
    r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])T(?:[01][0-9]|2[0-3])(?::[0-5][0-9]){2}Z"
)
VARIANT = re.compile(r"cu[0-9]{2,4}")
NUMBERS = re.compile(r"[0-9]+(?:\.[0-9]+)*")  # a version without any suffix
TAG = re.compile(r"[a-z0-9_]+-[a-z0-9_]+-[a-z0-9_]+")
# A reason or a specifier: one line that a page can show. Escaping is the renderers' work.
LINE = re.compile(r"[^\x00-\x1f\x7f\u2028\u2029]{0,500}")

T = TypeVar("T")


class BadRecord(CiError):
    """A record in the bucket is not what this tool writes: edited by hand, or hostile."""


class Fields:
    """The fields of one JSON object; each is taken once, and none may be left."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise bad(where, "an object", value)
        self._left: dict[str, Any] = dict(value)
        self._where = where

    def _take(self, name: str) -> Any:
        if name not in self._left:
            raise BadRecord(f"{self._where}: field {name!r} is missing", **_ADVICE)
        return self._left.pop(name)

    def text(self, name: str, form: Pattern[str]) -> str:
        value = self._take(name)
        if not isinstance(value, str) or not form.fullmatch(value):
            raise bad(f"{self._where}: field {name!r}", f"text like {form.pattern}", value)
        return value

    def optional_text(self, name: str, form: Pattern[str]) -> Optional[str]:
        if self._left.get(name, "") is None:
            self._take(name)
            return None
        return self.text(name, form)

    def specifier(self, name: str) -> str:
        """Text that is a version specifier, or empty."""
        value = self.text(name, LINE)
        try:
            SpecifierSet(value)
        except InvalidSpecifier as error:
            raise self.refuse(name, "a version specifier", value) from error
        return value

    def number(self, name: str) -> int:
        value = self._take(name)
        if type(value) is not int or value < 0:
            raise bad(f"{self._where}: field {name!r}", "a whole number, not negative", value)
        return value

    def flag(self, name: str) -> bool:
        value = self._take(name)
        if type(value) is not bool:
            raise bad(f"{self._where}: field {name!r}", "true or false", value)
        return value

    def texts(self, name: str, form: Pattern[str]) -> tuple[str, ...]:
        return tuple(
            Fields({name: item}, self._where).text(name, form) for item in self._items(name)
        )

    def objects(self, name: str, parse: Callable[[Fields], T]) -> tuple[T, ...]:
        found = []
        for position, item in enumerate(self._items(name)):
            fields = Fields(item, f"{self._where}: {name}[{position}]")
            found.append(parse(fields))
            fields.end()
        return tuple(found)

    def mapping(self, name: str, keys: Pattern[str], parse: Callable[[Fields], T]) -> dict[str, T]:
        value = self._take(name)
        if not isinstance(value, dict):
            raise bad(f"{self._where}: field {name!r}", "an object", value)
        found = {}
        for key, item in value.items():
            if not keys.fullmatch(key):
                raise bad(f"{self._where}: key in {name!r}", f"text like {keys.pattern}", key)
            fields = Fields(item, f"{self._where}: {name}[{key!r}]")
            found[key] = parse(fields)
            fields.end()
        return found

    def end(self) -> None:
        """Raises BadRecord if a field is left that no reader asked for."""
        if self._left:
            raise BadRecord(f"{self._where}: unknown field {min(self._left)!r}", **_ADVICE)

    def refuse(self, name: str, expected: str, value: object) -> BadRecord:
        """The error for a field that has the right form and a wrong meaning."""
        return bad(f"{self._where}: field {name!r}", expected, value)

    def _items(self, name: str) -> list[Any]:
        value = self._take(name)
        if not isinstance(value, list):
            raise bad(f"{self._where}: field {name!r}", "a list", value)
        return value


_ADVICE = {
    "means": "the record was edited by hand, or written by another tool",
    "do": "restore it from a backup; `python -m ci status` tells what else is not as it was",
}


def bad(where: str, expected: str, found: object) -> BadRecord:
    """The error for a value of the wrong form; long values are shortened."""
    shown = repr(found)
    shown = shown if len(shown) <= 100 else shown[:100] + "…"
    return BadRecord(f"{where} is {shown}, not {expected}", **_ADVICE)


def load(data: bytes, where: str) -> Fields:
    """The fields of the JSON object in `data`, whose "schema" must be ours."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise BadRecord(f"{where} is not JSON: {error}", **_ADVICE) from error
    fields = Fields(value, where)
    schema = fields.number("schema")
    if schema != SCHEMA:
        raise BadRecord(
            f"{where} has schema {schema}; this tool reads schema {SCHEMA}",
            means="a newer version of this tool wrote it",
            do="use the newest commit of the repository to publish",
        )
    return fields


def dump(record: Mapping[str, Any], *, indent: Optional[int] = 1) -> bytes:
    """A record as bytes: the same record is always the same bytes.

    indent: None for a record that is long, and read by people only in an emergency.
    """
    whole = {"schema": SCHEMA, **record}
    separators = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(whole, sort_keys=True, indent=indent, separators=separators)
    return text.encode("ascii") + b"\n"


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key!r} appears twice")
        found[key] = value
    return found
