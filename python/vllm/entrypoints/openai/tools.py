"""Which tools a request lets the model call, and how its text is read then."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Tuple

from vllm.entrypoints.openai.answers import AnswerFormat
from vllm.entrypoints.openai.errors import ApiError
from vllm.entrypoints.openai.options import ServerOptions
from vllm.entrypoints.openai.protocol.chat import ChatRequest
from vllm.entrypoints.openai.protocol.tools import NamedTool
from vllm.text.parsing import REASONING_FORMATS, TOOL_FORMATS


class ToolChoice(NamedTuple):
    """names: of the functions that may be called. for_template: the tools as it gets them."""

    names: Tuple[str, ...] = ()
    for_template: Tuple[Dict[str, Any], ...] = ()
    is_named: bool = False

    def answer_format(self, options: ServerOptions, body: ChatRequest, prompt: str) -> AnswerFormat:
        """How answers are read; `prompt` may have begun a reasoning."""
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


def choose(options: ServerOptions, body: ChatRequest) -> ToolChoice:
    """What a request says of tools. Raises ApiError."""
    offered: List[Dict[str, Any]] = [
        tool.model_dump(exclude_unset=True) for tool in body.tools or []
    ]
    wanted = body.tool_choice
    if not offered:
        if wanted not in (None, "none", "auto"):
            raise ApiError(400, "tool_choice needs tools", param="tool_choice")
        return ToolChoice()
    if wanted == "none":
        return ToolChoice()
    names = [tool["function"]["name"] for tool in offered]
    if options.tool_call_parser is None:
        raise ApiError(
            400,
            "tools are refused: this server was not told how its model writes calls "
            "(--tool-call-parser)",
            param="tools",
        )
    if isinstance(wanted, NamedTool) or wanted == "required":
        raise ApiError(
            400,
            "tool_choice must be none or auto: this server cannot force a call",
            param="tool_choice",
            code="unsupported_parameter",
        )
    return ToolChoice(tuple(names), tuple(offered))
