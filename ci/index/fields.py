"""JSON records whose schema is their dataclass: parsed strictly, with one serialization.

A field's type determines which values are valid and how they are written. Every page trusts the
records, so they are validated completely: an unknown field, a wrong type or a malformed text is
refused, with the name of the field.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import (
    Annotated,
    Any,
    Callable,
    NoReturn,
    Optional,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from ci.errors import CiError

SCHEMA = 1

T = TypeVar("T")


class BadRecord(CiError):
    """A record in the bucket that this tool did not write: edited by hand, or hostile."""

    def __init__(self, what: str, *, means: str = "", do: str = "") -> None:
        super().__init__(
            what,
            means=means or "the record was edited by hand, or written by another tool",
            do=do or "restore it from a backup; `python -m ci status` lists further damage",
        )


class Unreadable(CiError):
    """A record that nobody could read back: it is not written."""

    def __init__(self, wrong: BadRecord) -> None:
        super().__init__(
            f"a record was not written: {wrong.what}",
            means="every later publisher reads this record, and would refuse it",
            do="correct that value, and repeat the command",
        )


class Wrong(Exception):
    """Raised by a record's `check`: a field is well-formed, but its value contradicts others."""

    def __init__(self, field: str, expected: str, found: object) -> None:
        super().__init__(field, expected, found)
        self.field, self.expected, self.found = field, expected, found


@dataclasses.dataclass(frozen=True)
class Form:
    """The form of a text: a pattern for all of it, and optionally a further check `is_valid`."""

    pattern: re.Pattern[str]
    is_valid: Callable[[str], bool] = lambda text: True
    name: str = ""

    def refuses(self, value: object) -> Optional[str]:
        """What was expected, or None if `value` is valid."""
        if not isinstance(value, str) or not self.pattern.fullmatch(value):
            return f"text like {self.pattern.pattern}"
        return None if self.is_valid(value) else self.name


def _is_specifier(text: str) -> bool:
    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        return False
    return True


def _is_moment(text: str) -> bool:
    try:
        datetime.fromisoformat(text.rstrip("Z"))
    except ValueError:  # 30 February, the year 0
        return False
    return True


# The fields of this object are written into the enclosing object instead of a nested one.
FLAT = "flat"
# `dataclasses.field(default=…, metadata=ADDED)`: older records lack the field, and stay valid.
ADDED = {"added": True}

COMMIT = re.compile(r"[0-9a-f]{40}")
NUMBERS = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18}){0,9}")  # a version without any suffix
# A reason or a specifier: one line of characters that UTF-8 and XML have, for pages and the feed.
# The renderers escape it.
LINE = re.compile(r"[^\x00-\x1f\x7f\u2028\u2029\ud800-\udfff\ufffe\uffff]{0,500}")
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,200}")
_TIME = (
    r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])T(?:[01][0-9]|2[0-3])(?::[0-5][0-9]){2}Z"
)

Commit = Annotated[str, Form(COMMIT)]
Sha256 = Annotated[str, Form(re.compile(r"[0-9a-f]{64}"))]
Digest = Annotated[str, Form(re.compile(r"sha256:[0-9a-f]{64}"))]
Time = Annotated[str, Form(re.compile(_TIME), _is_moment, "a moment of the calendar")]
VariantName = Annotated[str, Form(re.compile(r"cu[0-9]{2,4}"))]
Numbers = Annotated[str, Form(NUMBERS)]
Tag = Annotated[str, Form(re.compile(r"[a-z0-9_]+-[a-z0-9_]+-[a-z0-9_]+"))]
Line = Annotated[str, Form(LINE)]
Specifier = Annotated[str, Form(LINE, _is_specifier, "a version specifier")]
FileName = Annotated[str, Form(FILE_NAME)]


def read(kind: type[T], data: bytes, where: str) -> T:
    """Parses a record of class `kind`, whose "schema" must be ours. Raises BadRecord.

    where: names `data` in errors.
    """
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise BadRecord(f"{where} is not JSON: {error}") from error
    left = _object(value, where)
    schema = _convert(int, _take(left, "schema", where), where, "schema")
    if schema != SCHEMA:
        raise BadRecord(
            f"{where} has schema {schema}; this tool reads schema {SCHEMA}",
            means="a newer version of this tool wrote it",
            do="use the newest commit of the repository to publish",
        )
    return _whole(kind, left, where)


def dump(record: Any, *, indent: Optional[int] = 1) -> bytes:
    """A record as bytes; equal records give equal bytes.

    indent: None for a long record, which people rarely read.
    Raises Unreadable for a record that `read` would refuse.
    """
    whole = {"schema": SCHEMA, **_plain(record)}
    separators = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(whole, sort_keys=True, indent=indent, separators=separators)
    data = text.encode("ascii") + b"\n"
    try:
        read(type(record), data, type(record).__name__)
    except BadRecord as error:
        raise Unreadable(error) from error
    return data


def _whole(kind: type[T], left: dict[str, Any], where: str) -> T:
    """The dataclass `kind` from an object with exactly its fields."""
    found = _fields_of(kind, left, where)
    if left:
        raise BadRecord(f"{where}: unknown field {min(left)!r}")
    return found


def _fields_of(kind: type[T], left: dict[str, Any], where: str) -> T:
    """The dataclass `kind` from its fields, which are removed from `left`."""
    missing = _may_miss(cast("Any", kind)) - left.keys()
    values = {
        name: _fields_of(hint, left, where)
        if is_flat
        else _convert(hint, _take(left, name, where), where, name)
        for name, hint, is_flat in _hints(cast("Any", kind))
        if name not in missing
    }
    found = kind(**values)
    try:
        getattr(found, "check", lambda: None)()
    except Wrong as error:
        _refuse(where, error.field, error.expected, error.found)
    return found


def _convert(hint: Any, value: object, where: str, name: str) -> Any:
    """`value` converted to the type `hint`; BadRecord names the field."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Union:  # Optional is a Union
        return None if value is None else _convert(arguments[0], value, where, name)
    if origin is tuple:
        if not isinstance(value, list):
            _refuse(where, name, "a list", value)
        return tuple(
            _convert_item(arguments[0], item, where, name, position)
            for position, item in enumerate(value)
        )
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        inner = f"{where}: {name}"
        return _whole(hint, _object(value, inner), inner)
    if origin is Mapping:
        return _mapping(arguments[0], arguments[1], value, where, name)
    return _scalar(hint, value, where, name)


def _scalar(hint: Any, value: object, where: str, name: str) -> Any:
    if get_origin(hint) is Annotated:
        expected = get_args(hint)[1].refuses(value)
        if expected:
            _refuse(where, name, expected, value)
    elif hint is int and (type(value) is not int or value < 0):
        _refuse(where, name, "a non-negative integer", value)
    elif hint is bool and type(value) is not bool:
        _refuse(where, name, "true or false", value)
    elif issubclass(hint, Enum):
        names = {member.value: member for member in hint}
        if not isinstance(value, str) or value not in names:
            _refuse(where, name, f"one of {', '.join(names)}", value)
        return names[value]
    return value


def _convert_item(hint: Any, item: object, where: str, name: str, at: object) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        inner = f"{where}: {name}[{at!r}]"
        return _whole(hint, _object(item, inner), inner)
    return _convert(hint, item, where, name)


def _mapping(key_hint: Any, hint: Any, value: object, where: str, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        _refuse(where, name, "an object", value)
    for key in value:
        expected = get_args(key_hint)[1].refuses(key)
        if expected:
            raise BadRecord(f"{where}: key in {name!r} is {_short(key)}, not {expected}")
    return {key: _convert_item(hint, item, where, name, key) for key, item in value.items()}


def _plain(value: Any) -> Any:
    """A record as dicts, lists and scalars, for `json`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found: dict[str, Any] = {}
        for name, _, is_flat in _hints(type(value)):
            inner = _plain(getattr(value, name))
            found.update(inner if is_flat else {name: inner})
        return found
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


@functools.cache
def _may_miss(kind: Any) -> frozenset[str]:
    return frozenset(f.name for f in dataclasses.fields(kind) if f.metadata.get("added"))


@functools.cache
def _hints(kind: Any) -> tuple[tuple[str, Any, bool], ...]:
    """The fields of a dataclass: name, type, and whether it is FLAT."""
    found = []
    for name, hint in get_type_hints(kind, include_extras=True).items():
        is_flat = get_origin(hint) is Annotated and get_args(hint)[1] == FLAT
        found.append((name, get_args(hint)[0] if is_flat else hint, is_flat))
    return tuple(found)


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRecord(f"{where} is {_short(value)}, not an object")
    return dict(value)


def _take(left: dict[str, Any], name: str, where: str) -> Any:
    if name not in left:
        raise BadRecord(f"{where}: field {name!r} is missing")
    return left.pop(name)


def _refuse(where: str, name: str, expected: str, found: object) -> NoReturn:
    raise BadRecord(f"{where}: field {name!r} is {_short(found)}, not {expected}")


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 100 else shown[:100] + "…"


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key!r} appears twice")
        found[key] = value
    return found
