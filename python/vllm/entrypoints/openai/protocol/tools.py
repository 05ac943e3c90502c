"""Tools: functions that a client offers, and calls by the model."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from pydantic import ConfigDict, Field
from typing_extensions import Literal

from vllm.entrypoints.openai.protocol.base import Answer, RequestPart


class Function(RequestPart):
    """A function that the model may call; parameters: a JSON schema of its arguments."""

    model_config = ConfigDict(extra="allow")
    name: str = Field(min_length=1)
    description: Optional[str] = None
    parameters: Optional[Dict[str, Any]] = None


class Tool(RequestPart):
    """{"type": "function", "function": {…}}"""

    model_config = ConfigDict(extra="allow")
    type: Literal["function"]
    function: Function


class NamedFunction(RequestPart):
    """The name of one of the functions."""

    name: str


class NamedTool(RequestPart):
    """The tool that the model has to call."""

    type: Literal["function"] = "function"
    function: NamedFunction


class CalledFunction(Answer):
    """arguments: JSON text. In a stream, the name comes first, then deltas of the arguments."""

    name: Optional[str] = None
    arguments: str


class ToolCall(Answer):
    """A call, or in a stream the delta of the call with this `index`."""

    index: Optional[int] = None
    id: Optional[str] = None
    type: Optional[str] = None
    function: CalledFunction


ToolCalls = List[ToolCall]
