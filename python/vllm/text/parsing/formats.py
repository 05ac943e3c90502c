"""The formats in which families of models write tool calls and reasoning, as data."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Mapping, Optional, Tuple


class CallBody(enum.Enum):
    """The syntax between the markers of a call."""

    JSON = "json"  # {"name": "f", "arguments": {…}}, or a list of such
    NAMED = "named"  # the name, a separator, and the arguments as JSON
    PYTHON = "python"  # [f(a=1), g()]


@dataclass(frozen=True)
class ToolFormat:
    """How a family writes its calls.

    body: the syntax of a call.
    begin: markers before one or several calls.
    end: markers after one or several calls.
    unmarked: whether an answer may begin with a call without a marker.
    name_ends: for NAMED, separators between name and arguments.
    kind: for NAMED, an optional word with a separator before the name.
    fence: for NAMED, optional marks around the arguments.
    needs_special_tokens: whether markers are special tokens, which detokenization usually skips.
    """

    body: CallBody
    begin: Tuple[str, ...] = ()
    end: Tuple[str, ...] = ()
    unmarked: bool = False
    name_ends: Tuple[str, ...] = ()
    kind: str = ""
    fence: Tuple[str, str] = ("", "")
    needs_special_tokens: bool = False


@dataclass(frozen=True)
class ReasoningFormat:
    """The markers around the reasoning at the beginning of an answer."""

    begin: str
    end: str
    needs_special_tokens: bool = False


_DEEPSEEK_CALLS = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
_DEEPSEEK_CALL = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
_DEEPSEEK_SEPARATOR = "<｜tool▁sep｜>"

# By their names in vLLM's --tool-call-parser.
TOOL_FORMATS: Mapping[str, ToolFormat] = {
    # Hermes 2 Pro, Qwen 2.5 and Qwen 3
    "hermes": ToolFormat(CallBody.JSON, begin=("<tool_call>",), end=("</tool_call>",)),
    # Llama 3.1 and later
    "llama3_json": ToolFormat(
        CallBody.JSON,
        begin=("<|python_tag|>",),
        end=(";",),
        unmarked=True,
        needs_special_tokens=True,
    ),
    # Llama 3.2 and 4
    "pythonic": ToolFormat(
        CallBody.PYTHON,
        begin=("<|python_start|>",),
        end=("<|python_end|>",),
        unmarked=True,
        needs_special_tokens=True,
    ),
    # Mistral: a list of objects in older models; in newer ones each call has a marker and its name
    "mistral": ToolFormat(
        CallBody.NAMED,
        begin=("[TOOL_CALLS]",),
        name_ends=("[ARGS]", "[CALL_ID]"),
        needs_special_tokens=True,
    ),
    # DeepSeek V3 and R1
    "deepseek_v3": ToolFormat(
        CallBody.NAMED,
        begin=(_DEEPSEEK_CALLS[0], _DEEPSEEK_CALL[0]),
        end=(_DEEPSEEK_CALL[1], _DEEPSEEK_CALLS[1]),
        name_ends=("\n",),
        kind="function" + _DEEPSEEK_SEPARATOR,
        fence=("```json", "```"),
        needs_special_tokens=True,
    ),
    "deepseek_v31": ToolFormat(
        CallBody.NAMED,
        begin=(_DEEPSEEK_CALLS[0], _DEEPSEEK_CALL[0]),
        end=(_DEEPSEEK_CALL[1], _DEEPSEEK_CALLS[1]),
        name_ends=(_DEEPSEEK_SEPARATOR,),
        needs_special_tokens=True,
    ),
}

# By their names in vLLM's --reasoning-parser.
_THINK = ReasoningFormat("<think>", "</think>")
REASONING_FORMATS: Mapping[str, ReasoningFormat] = {
    "qwen3": _THINK,
    "deepseek_r1": _THINK,
    "deepseek_v3": _THINK,
    "mistral": ReasoningFormat("[THINK]", "[/THINK]", needs_special_tokens=True),
}


def begins_in_reasoning(prompt: str, reasoning: Optional[ReasoningFormat]) -> bool:
    """Whether a prompt ends with the marker that begins reasoning, written by the template."""
    return reasoning is not None and prompt.rstrip().endswith(reasoning.begin)
