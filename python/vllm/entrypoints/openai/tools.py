"""Which tools the model may call in a request, and how its text is parsed."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from vllm.entrypoints.openai.answers import AnswerFormat
from vllm.entrypoints.openai.errors import ApiError
from vllm.entrypoints.openai.options import ServerOptions
from vllm.entrypoints.openai.protocol.chat import ChatRequest
from vllm.entrypoints.openai.protocol.tools import NamedTool
from vllm.text.parsing import REASONING_FORMATS, TOOL_FORMATS, ToolFormat
from vllm.text.parsing.formats import CallBody

# The format of an answer that a schema constrains to one call.
_FORCED = ToolFormat(CallBody.JSON, unmarked=True)


class ChosenTools(NamedTuple):
    """The tools that may be called, and whether a call is required.

    names: names of the functions that may be called.
    for_template: definitions of the tools for the chat template.
    schema: if a call is required, the JSON schema of the answer, which is then only JSON.
    is_named: whether the client has named the function to call.
    """

    names: Tuple[str, ...] = ()
    for_template: Tuple[Dict[str, Any], ...] = ()
    schema: Optional[Dict[str, Any]] = None
    is_named: bool = False

    def answer_format(self, options: ServerOptions, body: ChatRequest, prompt: str) -> AnswerFormat:
        """How answers are parsed; the end of `prompt` may begin the reasoning."""
        if self.schema is not None:
            return AnswerFormat(_FORCED, None, tool_names=self.names)
        tools = options.tool_call_parser if self.names else None
        reasoning = options.reasoning_parser
        return AnswerFormat(
            TOOL_FORMATS[tools] if tools else None,
            REASONING_FORMATS[reasoning] if reasoning else None,
            tool_names=self.names,
            prompt=prompt,
            several_calls=body.parallel_tool_calls is not False,
            include_reasoning=body.include_reasoning is not False,
        )


def choose(options: ServerOptions, body: ChatRequest) -> ChosenTools:
    """The tool choice of a request. Raises ApiError."""
    offered: List[Dict[str, Any]] = [
        tool.model_dump(exclude_unset=True) for tool in body.tools or []
    ]
    wanted = body.tool_choice
    if not offered:
        if wanted not in (None, "none", "auto"):
            raise ApiError(400, "tool_choice needs tools", param="tool_choice")
        return ChosenTools()
    if wanted == "none":
        return ChosenTools()
    if isinstance(wanted, NamedTool) or wanted == "required":
        return _forced(offered, wanted.function.name if isinstance(wanted, NamedTool) else None)
    if options.tool_call_parser is None:
        raise ApiError(
            400,
            "tools are not supported: this server was started without --tool-call-parser",
            param="tools",
        )
    return ChosenTools(_names(offered), tuple(offered))


def _forced(offered: List[Dict[str, Any]], name: Optional[str]) -> ChosenTools:
    """Requires a call of the tool `name`, or of any tool if it is None."""
    callable_ = [tool for tool in offered if name in (None, tool["function"]["name"])]
    if not callable_:
        raise ApiError(
            400, f"tool_choice names {name!r}, which is not in tools", param="tool_choice"
        )
    definitions: Dict[str, Any] = {}
    calls = []
    for tool in callable_:
        arguments = dict(tool["function"].get("parameters") or {"type": "object"})
        for place in ("$defs", "definitions"):  # $ref paths begin at the root of the schema
            definitions.setdefault(place, {}).update(arguments.pop(place, {}))
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": tool["function"]["name"]}, "arguments": arguments},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    schema = {"anyOf": calls, **definitions}
    return ChosenTools(_names(callable_), tuple(offered), schema, is_named=name is not None)


def _names(offered: List[Dict[str, Any]]) -> Tuple[str, ...]:
    return tuple(tool["function"]["name"] for tool in offered)
