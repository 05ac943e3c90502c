"""The incremental parser of an answer's text."""

from __future__ import annotations

import re
from typing import Callable, Collection, List, Optional

from vllm.text.parsing.calls import read_calls
from vllm.text.parsing.deltas import Call, Content, Delta, ParsedMessage, Reasoning, join
from vllm.text.parsing.formats import CallBody, ReasoningFormat, ToolFormat
from vllm.text.parsing.json_text import SPACE, NotACallError
from vllm.text.parsing.reader import END, Reader, Steps


class Parser:
    """Parses pieces of text into content, reasoning and calls; see `vllm.text.parsing`."""

    def __init__(
        self,
        tools: Optional[ToolFormat] = None,
        reasoning: Optional[ReasoningFormat] = None,
        *,
        tool_names: Collection[str] = (),
        begins_in_reasoning: bool = False,
    ) -> None:
        self._tools = tools
        self._reasoning = reasoning
        self._deltas: List[Delta] = []
        self._content = _Text(lambda text: self._deltas.append(Content(text)))
        self._thoughts = _Text(lambda text: self._deltas.append(Reasoning(text)))
        self._thoughts.begin_anew()
        self._in_reasoning = begins_in_reasoning and reasoning is not None
        if self._in_reasoning:
            self._content.begin_anew()
        # Whether there was only space since the answer began, or since a reasoning or call ended.
        self._at_start = True
        # If a call has ended a reasoning, the reasoning's end marker may follow the call.
        self._end_is_due = False
        self._calls = _Calls(self, tool_names)
        self._reader = Reader()
        self._is_marked = True
        self._is_in_text = False
        self._plain_until = _first_of_markers(tools, reasoning)
        self._steps = self._run()
        next(self._steps)

    def feed(self, text: str) -> List[Delta]:
        """The deltas of a piece of text."""
        position = 0
        while position < len(text):
            if self._is_in_text and self._reader.is_at_rest:
                # A fast path: up to where a marker may begin, there is only text.
                found = self._plain_until.search(text, position)
                end = found.start() if found else len(text)
                if end > position:
                    self._take(text[position:end])
                    position = end
                    continue
            self._steps.send(text[position])
            position += 1
        return self._taken()

    def finish(self) -> List[Delta]:
        """The last deltas, at the end of the text."""
        try:
            self._steps.send(END)
        except StopIteration:
            pass
        else:
            raise AssertionError("the parser waits for more text after the end")
        return self._taken()

    def begin_call(self) -> None:
        """Ends the text before a call, or the reasoning that the call ends."""
        self._content.begin_anew()
        if self._in_reasoning:
            self._in_reasoning, self._end_is_due = False, True
        self._reader.mark()

    def add(self, delta: Delta) -> None:
        self._deltas.append(delta)

    @property
    def wants_known_names(self) -> bool:
        """Whether a call must have the name of one of the client's tools."""
        return self._in_reasoning or not self._is_marked

    def _run(self) -> Steps[None]:
        reader, tools, reasoning = self._reader, self._tools, self._reasoning
        opening = (reasoning.begin, reasoning.end) if reasoning else ()
        words = {*opening, *(tools.begin if tools else ())}
        while True:
            reader.mark()
            self._is_in_text = True
            word = yield from reader.match(words)
            self._is_in_text = False
            if reasoning is not None and word in opening:
                is_text = not self._cross(is_begin=word == reasoning.begin)
            elif word is not None or (yield from self._may_be_unmarked_call()):
                is_text = not (yield from self._read_calls(marked=word is not None))
            else:
                is_text = True
            if not is_text:
                continue
            reader.rewind()
            character = yield from reader.read()
            if character == END:
                break
            self._take(character)
        (self._thoughts if self._in_reasoning else self._content).finish()

    def _cross(self, *, is_begin: bool) -> bool:
        """Handles a marker of reasoning; False if it is only text here."""
        if is_begin:
            if self._in_reasoning or not self._at_start:
                return False
        elif not self._in_reasoning:
            was_due, self._end_is_due = self._end_is_due, False
            return was_due
        self._in_reasoning = is_begin
        self._content.begin_anew()
        self._thoughts.begin_anew()
        self._at_start = True
        return True

    def _may_be_unmarked_call(self) -> Steps[bool]:
        if self._tools is None or not self._tools.unmarked:
            return False
        if self._in_reasoning or not self._at_start:
            return False
        opening = "[" if self._tools.body is CallBody.PYTHON else "{"
        return (yield from self._reader.peek()) == opening

    def _read_calls(self, *, marked: bool) -> Steps[bool]:
        """Reads calls and their end markers; False if there are none."""
        reader, tools = self._reader, self._tools
        assert tools is not None
        num_before, self._is_marked = self._calls.count, marked
        try:
            if reader.has_ended and self._calls.has_failed_at_end:
                raise NotACallError  # the rest was already read to its end: keeps this linear
            yield from reader.skip(SPACE)
            while tools.begin and (yield from reader.match(tools.begin)):
                yield from reader.skip(SPACE)
            yield from read_calls(reader, tools, self._calls, marked=marked)
        except NotACallError:
            if reader.has_ended:
                self._calls.has_failed_at_end = True
            if self._calls.count == num_before:
                return False
            reader.rewind()
        reader.mark()
        yield from self._skip_end(tools)
        self._at_start = True
        return True

    def _skip_end(self, tools: ToolFormat) -> Steps[None]:
        """Skips end markers of calls, and surplus brackets that models write."""
        reader = self._reader
        while True:
            yield from reader.skip(SPACE)
            if tools.body is not CallBody.PYTHON:
                yield from reader.skip("}" + SPACE)
            reader.mark()
            if not tools.end or (yield from reader.match(tools.end)) is None:
                return

    def _take(self, text: str) -> None:
        (self._thoughts if self._in_reasoning else self._content).add(text)
        self._at_start = self._at_start and text.isspace()

    def _taken(self) -> List[Delta]:
        """The deltas so far; consecutive ones of the same kind are merged."""
        merged: List[Delta] = []
        for delta in self._deltas:
            last = merged[-1] if merged else None
            if isinstance(delta, Call):
                if isinstance(last, Call) and delta.name is None:
                    merged[-1] = Call(last.index, last.name, last.arguments + delta.arguments)
                    continue
            elif last is not None and type(last) is type(delta):
                merged[-1] = type(delta)(last.text + delta.text)
                continue
            merged.append(delta)
        self._deltas.clear()
        return merged


class _Text:
    """Text, stripped of the space between it and calls or reasoning."""

    def __init__(self, out: Callable[[str], None]) -> None:
        self._out = out
        self._space = ""  # part of the text only if more text follows
        self._is_anew = False
        self._has_begun = False

    def add(self, text: str) -> None:
        if self._is_anew:
            text = text.lstrip()
            if not text:
                return
            self._is_anew = False
        text = self._space + text
        shown = text.rstrip()
        self._space = text[len(shown) :]
        if shown:
            self._has_begun = True
            self._out(shown)

    def begin_anew(self) -> None:
        """A call or reasoning interrupts the text: the space after it is dropped."""
        self._is_anew = True
        if not self._has_begun:
            self._space = ""

    def finish(self) -> None:
        if self._space and not self._is_anew:
            self._out(self._space)


class _Calls:
    """Writes calls as deltas."""

    def __init__(self, parser: Parser, tool_names: Collection[str]) -> None:
        self.count = 0
        self.has_failed_at_end = False
        self._parser = parser
        self._names = frozenset(tool_names)

    def begin(self, name: str) -> None:
        if self._names and self._parser.wants_known_names and name not in self._names:
            raise NotACallError
        self._parser.begin_call()
        self._parser.add(Call(self.count, name, ""))
        self.count += 1

    def is_known(self, name: str) -> bool:
        return name in self._names

    def add_arguments(self, text: str) -> None:
        self._parser.add(Call(self.count - 1, None, text))


def _first_of_markers(
    tools: Optional[ToolFormat], reasoning: Optional[ReasoningFormat]
) -> re.Pattern[str]:
    """Finds characters at which a marker or a call may begin."""
    first = {word[0] for word in (tools.begin if tools else ())}
    if tools and tools.unmarked:
        first |= {"{", "["}
    if reasoning:
        first |= {reasoning.begin[0], reasoning.end[0]}
    return re.compile("[" + re.escape("".join(sorted(first))) + "]" if first else "(?!)")


def parse(
    text: str,
    tools: Optional[ToolFormat] = None,
    reasoning: Optional[ReasoningFormat] = None,
    *,
    tool_names: Collection[str] = (),
    begins_in_reasoning: bool = False,
) -> ParsedMessage:
    """Parses a whole text."""
    parser = Parser(
        tools, reasoning, tool_names=tool_names, begins_in_reasoning=begins_in_reasoning
    )
    return join([*parser.feed(text), *parser.finish()])
