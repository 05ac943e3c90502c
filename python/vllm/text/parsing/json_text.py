"""Reads JSON's text, as far as is needed to know where a value ends."""

from __future__ import annotations

import json
from typing import Callable, List

from vllm.text.parsing.reader import END, Reader, Steps

SPACE = " \t\r\n"
# What may stand outside of strings: punctuation, space, numbers and true, false, null.
_OUTSIDE_STRINGS = frozenset("{}[],:+-." + SPACE + "0123456789abcdefghijklmnopqrstuvwxyzE")

Out = Callable[[str], None]


class NotACallError(Exception):
    """What looked like a call is none."""


def read_string(reader: Reader) -> Steps[str]:
    """The value of a string. Raises NotACallError if none comes."""
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

    strict: raise NotACallError for what cannot be JSON; else brackets alone decide where the value
        ends. At the end of the text a value ends in any case, unless `strict`.
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
            return  # behind a number, true, false or null
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
