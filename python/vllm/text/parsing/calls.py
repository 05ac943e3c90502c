"""Reads the calls of a tool format. Raises NotACallError for text that turns out not to be one."""

from __future__ import annotations

import ast
import json
import warnings
from typing import Any, List, Optional, Protocol, Tuple

from vllm.text.parsing.formats import CallBody, ToolFormat
from vllm.text.parsing.json_text import SPACE, NotACallError, copy_value, read_string
from vllm.text.parsing.reader import END, Reader, Steps

_NAMES, _ARGUMENTS = ("name",), ("arguments", "parameters")
_BESIDE_NAMES = ("type", "id")  # further members that an unmarked call may have
_IN_NAMES = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:/")


class CallWriter(Protocol):
    """Receives calls while they are read."""

    def begin(self, name: str) -> None:
        """Begins a call, which cannot be undone. Raises NotACallError for an unknown tool."""

    def is_known(self, name: str) -> bool:
        """Whether the client has a tool of this name."""

    def add_arguments(self, text: str) -> None:
        """Appends to the arguments of the last call."""


def read_calls(
    reader: Reader, form: ToolFormat, writer: CallWriter, *, marked: bool
) -> Steps[None]:
    """Reads the calls after a marker, or without a marker at the start of an answer.

    The reader's mark is moved after each call that has begun, so that what follows it, if it is not
    a call, stays text.
    """
    if form.body is CallBody.PYTHON:
        yield from _python_list(reader, writer)
        return
    yield from reader.skip(SPACE)
    first = yield from reader.peek()
    if form.body is CallBody.NAMED and first not in ("{", "["):
        yield from _named(reader, form, writer)
    elif first == "[" and marked:
        yield from _json_list(reader, writer)
    else:
        yield from _json_object(reader, writer, marked=marked)


def _json_list(reader: Reader, writer: CallWriter) -> Steps[None]:
    yield from reader.read()
    while True:
        yield from reader.skip(SPACE)
        yield from _json_object(reader, writer, marked=True)
        reader.mark()
        yield from reader.skip(SPACE)
        separator = yield from reader.match((",", "]"))
        if separator != ",":
            return


def _json_object(reader: Reader, writer: CallWriter, *, marked: bool) -> Steps[None]:
    """{"name": "f", "arguments": {…}}, with members in any order; ignores other members."""
    if (yield from reader.match(("{",))) is None:
        raise NotACallError
    name: Optional[str] = None
    early: Optional[List[str]] = None  # arguments that came before the name
    begun = False
    try:
        while True:
            yield from reader.skip(SPACE)
            if (yield from reader.match(("}",))):
                break
            key = yield from read_string(reader)
            yield from reader.skip(SPACE)
            if (yield from reader.match((":",))) is None:
                raise NotACallError
            yield from reader.skip(SPACE)
            if key in _NAMES:
                name = yield from read_string(reader)
                if not name or not _IN_NAMES.issuperset(name):
                    raise NotACallError
            elif key in _ARGUMENTS and name is not None and not begun:
                begun = yield from _arguments(reader, writer, name)
            elif key in _ARGUMENTS and not begun:
                early = []
                yield from copy_value(reader, early.append, strict=True)
            elif marked or key in _BESIDE_NAMES:
                yield from copy_value(reader, _ignore, strict=True)
            else:  # the answer itself is JSON: stream it instead of waiting for its end
                raise NotACallError
            if name is not None and early is not None and not begun:
                writer.begin(name)
                writer.add_arguments(_as_object("".join(early)))
                begun = True
                reader.mark()
            yield from reader.skip(SPACE)
            separator = yield from reader.match((",", "}"))
            if separator is None and not begun:
                raise NotACallError
            if separator != ",":
                break
    except NotACallError:
        if not begun:
            raise
        reader.rewind()  # the call stays; the rest is text
    if not begun:
        if name is None or not (marked or writer.is_known(name)):
            raise NotACallError
        writer.begin(name)
        writer.add_arguments("{}")


def _arguments(reader: Reader, writer: CallWriter, name: str) -> Steps[bool]:
    """Reads a call's arguments; streams them if they are an object. True: the call has begun."""
    if (yield from reader.peek()) == "{":
        writer.begin(name)
        reader.mark()
        yield from copy_value(reader, writer.add_arguments, strict=False)
    else:
        raw: List[str] = []
        yield from copy_value(reader, raw.append, strict=True)
        writer.begin(name)
        writer.add_arguments(_as_object("".join(raw)))
    reader.mark()
    return True


def _as_object(text: str) -> str:
    """Converts arguments that are not an object: a string that contains one, or null."""
    if text == "null":
        return "{}"
    if text.startswith('"'):
        try:
            return str(json.loads(text, strict=False)) or "{}"
        except ValueError:
            return text
    return text


def _named(reader: Reader, form: ToolFormat, writer: CallWriter) -> Steps[None]:
    """A name, its end marker, and an object, which may be fenced."""
    if form.kind:
        yield from reader.match((form.kind,))
    name: List[str] = []
    while True:
        end = yield from reader.match(form.name_ends)
        if end is not None:
            break
        character = yield from reader.peek()
        if character == "{" and name:
            break
        if character not in _IN_NAMES:
            raise NotACallError
        name.append((yield from reader.read()))
    if not name:
        raise NotACallError
    if end is not None and end != form.name_ends[0]:  # an id before the end marker
        while (yield from reader.match(form.name_ends[:1])) is None:
            if (yield from reader.read()) == END:
                raise NotACallError
    yield from reader.skip(SPACE)
    opened = form.fence[0] and (yield from reader.match(form.fence[:1]))
    yield from reader.skip(SPACE)
    following = yield from reader.peek()
    if following == "{":
        writer.begin("".join(name))
        reader.mark()
        yield from copy_value(reader, writer.add_arguments, strict=False)
    elif following == END or any(word[0] == following for word in (*form.end, *form.begin)):
        writer.begin("".join(name))
        writer.add_arguments("{}")
    else:
        raise NotACallError
    reader.mark()
    if opened:
        yield from reader.skip(SPACE)
        yield from reader.match(form.fence[1:])


def _python_list(reader: Reader, writer: CallWriter) -> Steps[None]:
    """[f(a=1), g()]"""
    yield from reader.skip(SPACE)
    if (yield from reader.match(("[",))) is None:
        raise NotACallError
    while True:
        yield from reader.skip(SPACE)
        name, arguments = _evaluated((yield from _python_call(reader)))
        writer.begin(name)
        writer.add_arguments(arguments)
        reader.mark()
        yield from reader.skip(SPACE)
        if (yield from reader.match((",", "]"))) != ",":
            return


def _python_call(reader: Reader) -> Steps[str]:
    """The text of a call: a name and its arguments in parentheses."""
    text: List[str] = []
    while (yield from reader.peek()) in _IN_NAMES:
        text.append((yield from reader.read()))
    depth, quote = 0, ""
    while True:
        character = yield from reader.read()
        if character == END or not (text and (depth or character == "(")):
            raise NotACallError
        text.append(character)
        if character == "\\" and quote:
            text.append((yield from reader.read()))
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        else:
            depth += (character in "([{") - (character in ")]}")
            if depth == 0:
                return "".join(text)


class _JsonNames(ast.NodeTransformer):
    """Replaces the names true, false and null by their JSON values."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        values: Any = {"true": True, "false": False, "null": None}
        return ast.Constant(values[node.id]) if node.id in values else node


def _evaluated(text: str) -> Tuple[str, str]:
    """The name and the JSON arguments of a Python call with literal keyword arguments."""
    try:
        with warnings.catch_warnings():  # of invalid escapes
            warnings.simplefilter("ignore")
            call = ast.parse(text, mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise NotACallError
        arguments = {}
        for keyword in call.keywords:
            if keyword.arg is None:
                raise NotACallError
            arguments[keyword.arg] = ast.literal_eval(_JsonNames().visit(keyword.value))
        return text[: text.index("(")], json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise NotACallError from error


def _ignore(text: str) -> None:
    """Discards text."""
