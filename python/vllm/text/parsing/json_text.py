"""Scans JSON text just enough to find where a value ends."""

from __future__ import annotations

import json
from typing import Callable, List

from vllm.text.parsing.reader import END, Reader, Steps

SPACE = " \t\r\n"
# Characters allowed outside of strings: in punctuation, space, numbers, true, false and null.
_OUTSIDE_STRINGS = frozenset("{}[],:+-." + SPACE + "0123456789abcdefghijklmnopqrstuvwxyzE")

Out = Callable[[str], None]


class NotACallError(Exception):
    """The text looked like a call but is not one."""


def read_string(reader: Reader) -> Steps[str]:
    """Reads a string and returns its value. Raises NotACallError if the next value is no string."""
    raw: List[str] = []
    if (yield from reader.peek()) != '"':
        raise NotACallError
    yield from _string(reader, raw.append)
    try:
        return str(json.loads("".join(raw), strict=False))
    except ValueError as error:
        raise NotACallError from error


def copy_value(reader: Reader, out: Out, *, strict: bool) -> Steps[None]:
    """Copies a value's text.

    strict: raise NotACallError for invalid JSON and at the end of the text. Otherwise only brackets
        decide where the value ends, and the end of the text ends it too.
    """
    depth = 0
    while True:
        character = yield from reader.peek()
        if character == END:
            if strict:
                raise NotACallError
            return
        if character == '"':
            yield from _string(reader, out, strict=strict)
        elif depth == 0 and character in ",}]" + SPACE:
            return  # after a number, true, false or null
        else:
            if strict and character not in _OUTSIDE_STRINGS:
                raise NotACallError
            depth += (character in "{[") - (character in "}]")
            out((yield from reader.read()))
            if depth or character not in "}]":
                continue
        if depth == 0:
            return


def _string(reader: Reader, out: Out, *, strict: bool = True) -> Steps[None]:
    out((yield from reader.read()))
    while True:
        character = yield from reader.read()
        if character == END:
            if strict:
                raise NotACallError
            return
        out(character)
        if character == '"':
            return
        if character == "\\":
            out((yield from reader.read()))
