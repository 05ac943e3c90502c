"""Converts a model's text to messages: content, reasoning and tool calls, whole or in pieces."""

from __future__ import annotations

import secrets
from typing import Any, Dict, Iterable, List, Optional

from vllm.entrypoints.openai.protocol.chat import AnswerMessage
from vllm.entrypoints.openai.protocol.tools import CalledFunction, ToolCall
from vllm.text.parsing import (
    Call,
    Content,
    Delta,
    Parser,
    Reasoning,
    ReasoningFormat,
    ToolFormat,
    join,
)
from vllm.text.parsing import begins_in_reasoning as begins


class AnswerFormat:
    """How to parse the text of one request.

    tools: the format of calls; None if the model may not call tools.
    several_calls: whether a message may have more than one call.
    include_reasoning: whether the client gets the reasoning.
    """

    def __init__(
        self,
        tools: Optional[ToolFormat],
        reasoning: Optional[ReasoningFormat],
        *,
        tool_names: Iterable[str] = (),
        prompt: str = "",
        several_calls: bool = True,
        include_reasoning: bool = True,
    ) -> None:
        self._tools = tools
        self._reasoning = reasoning
        self._names = tuple(tool_names)
        self._begins_in_reasoning = begins(prompt, reasoning)
        self._several_calls = several_calls
        self._include_reasoning = include_reasoning

    @property
    def is_plain(self) -> bool:
        """Whether all text is content."""
        return self._tools is None and self._reasoning is None

    @property
    def needs_special_tokens(self) -> bool:
        """Whether the text must include special tokens, because markers are such tokens."""
        formats = (self._tools, self._reasoning)
        return any(each is not None and each.needs_special_tokens for each in formats)

    def reader(self) -> AnswerReader:
        """For one answer."""
        parser = None
        if not self.is_plain:
            parser = Parser(
                self._tools,
                self._reasoning,
                tool_names=self._names,
                begins_in_reasoning=self._begins_in_reasoning,
            )
        return AnswerReader(parser, self)

    def shows(self, delta: Delta) -> bool:
        """Whether the client gets it."""
        if isinstance(delta, Call):
            return self._several_calls or delta.index == 0
        return self._include_reasoning or not isinstance(delta, Reasoning)


class AnswerReader:
    """Parses one answer incrementally. has_calls: whether a call has begun."""

    def __init__(self, parser: Optional[Parser], form: AnswerFormat) -> None:
        self.has_calls = False
        self._parser = parser
        self._form = form

    def whole(self, text: str, role: str, beginning: str = "") -> AnswerMessage:
        """Parses a whole text to a message; `beginning` is prepended to its content."""
        if self._parser is None:
            return AnswerMessage(role=role, content=beginning + text, refusal=None)
        message = join(self.deltas(text, is_last=True))
        content = message.content
        found: Dict[str, Any] = {}
        if message.reasoning is not None:
            found.update(reasoning=message.reasoning, reasoning_content=message.reasoning)
        if message.calls:
            found["tool_calls"] = [
                ToolCall(
                    id=_call_id(),
                    type="function",
                    function=CalledFunction(name=call.name, arguments=call.arguments),
                )
                for call in message.calls
            ]
        elif content is None and message.reasoning is None:
            content = ""
        if beginning:
            content = beginning + (content or "")
        return AnswerMessage(role=role, content=content, refusal=None, **found)

    def piece(self, text: str, *, is_last: bool) -> Optional[AnswerMessage]:
        """The delta message of a piece of text; None if it adds nothing yet."""
        deltas = self.deltas(text, is_last=is_last)
        message = join([delta for delta in deltas if not isinstance(delta, Call)])
        calls = [_call_delta(delta) for delta in deltas if isinstance(delta, Call)]
        found: Dict[str, Any] = {}
        if message.content is not None:
            found["content"] = message.content
        if message.reasoning is not None:
            found.update(reasoning=message.reasoning, reasoning_content=message.reasoning)
        if calls:
            found["tool_calls"] = calls
        return AnswerMessage(**found) if found else None

    def deltas(self, text: str, *, is_last: bool) -> List[Delta]:
        """The deltas of a piece of text that the client gets."""
        if self._parser is None:
            return [Content(text)] if text else []
        deltas = self._parser.feed(text)
        if is_last:
            deltas += self._parser.finish()
        shown = [delta for delta in deltas if self._form.shows(delta)]
        self.has_calls |= any(isinstance(delta, Call) for delta in shown)
        return shown


def _call_delta(call: Call) -> ToolCall:
    if call.name is None:
        return ToolCall(index=call.index, function=CalledFunction(arguments=call.arguments))
    return ToolCall(
        index=call.index,
        id=_call_id(),
        type="function",
        function=CalledFunction(name=call.name, arguments=call.arguments),
    )


def _call_id() -> str:
    return f"call_{secrets.token_hex(12)}"
