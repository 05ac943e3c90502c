"""/v1/messages and /v1/messages/count_tokens: requests and answers, by Anthropic's names."""

from __future__ import annotations

from typing import Any, ClassVar, Dict, List, Mapping, Optional, Tuple, Union

from pydantic import ConfigDict, Field
from typing_extensions import Literal

from vllm.entrypoints.openai.protocol.base import Answer, Refusal, RequestBody, RequestPart


class InputBlock(RequestPart):
    """A part of a message: text, thinking, tool_use or tool_result. Others are refused."""

    model_config = ConfigDict(extra="allow")
    type: str
    text: Optional[str] = None
    thinking: Optional[str] = None
    id: Optional[str] = None
    name: Optional[str] = None
    input: Optional[Dict[str, Any]] = None
    tool_use_id: Optional[str] = None
    content: Union[str, List[Dict[str, Any]], None] = None


class InputMessage(RequestPart):
    """One turn. If the last turn is the assistant's, the answer continues it."""

    role: Literal["user", "assistant", "system"]
    content: Union[str, List[InputBlock]]


class OfferedTool(RequestPart):
    """A tool of the client's own; input_schema: a JSON schema of its arguments."""

    model_config = ConfigDict(extra="allow")
    type: Optional[str] = None
    name: str = Field(min_length=1)
    description: Optional[str] = None
    input_schema: Optional[Dict[str, Any]] = None


class ToolChoice(RequestPart):
    """Whether a tool is called: as the model likes, at least one, this one, none."""

    type: Literal["auto", "any", "tool", "none"]
    name: Optional[str] = None
    disable_parallel_tool_use: Optional[bool] = False


class Thinking(RequestPart):
    """Whether the model thinks before it answers. budget_tokens does not bound it: max_tokens
    bounds both together."""

    model_config = ConfigDict(extra="allow")
    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Optional[int] = None


class OutputFormat(RequestPart):
    """A JSON schema that the answer conforms to."""

    model_config = ConfigDict(extra="allow")
    type: Literal["json_schema"]
    json_schema: Dict[str, Any] = Field(alias="schema")


class OutputConfig(RequestPart):
    """effort: for the model's template."""

    effort: Optional[str] = None
    format: Optional[OutputFormat] = None


class CountRequest(RequestBody):
    """A conversation, with all that becomes a part of the prompt."""

    REFUSED: ClassVar[Mapping[str, Refusal]] = {
        "container": Refusal("this server runs no code"),
        "context_management": Refusal("conversations are not edited"),
        "mcp_servers": Refusal("this server connects to no other servers", ([],)),
    }
    WITHOUT_EFFECT: ClassVar[Tuple[str, ...]] = (
        *RequestBody.WITHOUT_EFFECT,
        "betas",
        "cache_control",
        "diagnostics",
        "inference_geo",
        "service_tier",
        "speed",
    )

    messages: List[InputMessage] = Field(min_length=1)
    system: Union[str, List[InputBlock], None] = None
    tools: Optional[List[OfferedTool]] = Field(
        None, description="functions that the model may call"
    )
    tool_choice: Optional[ToolChoice] = None
    thinking: Optional[Thinking] = None
    output_config: Optional[OutputConfig] = None


class MessagesRequest(CountRequest):
    """A conversation to answer."""

    max_tokens: int = Field(ge=1, description="maximum number of tokens, including thinking")
    temperature: Optional[float] = Field(None, ge=0, le=100, description="0 is greedy")
    top_p: Optional[float] = Field(None, gt=0, le=1)
    top_k: Optional[int] = Field(None, ge=-1)
    stop_sequences: Optional[List[str]] = None
    stream: Optional[bool] = False


class MessageUsage(Answer):
    """Tokens that a request took; those of the prompt are in one of three places."""

    input_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int
    output_tokens: int


class MessageAnswer(Answer):
    """The answer. content: blocks of type text, thinking or tool_use."""

    id: str
    type: str = "message"
    role: str = "assistant"
    model: str
    content: List[Dict[str, Any]]
    stop_reason: Optional[str]
    stop_sequence: Optional[str]
    usage: MessageUsage


class CountAnswer(Answer):
    """Tokens of the prompt that the conversation becomes."""

    input_tokens: int


class MessagesErrorDetails(Answer):
    """type: whose fault it is. message: what happened, and what to do."""

    type: str
    message: str


class MessagesErrorAnswer(Answer):
    """The body of every response with a status from 400 on."""

    type: str
    error: MessagesErrorDetails
