"""/v1/responses"""

from __future__ import annotations

from typing import Any, ClassVar, Dict, List, Mapping, Optional, Tuple, Union

from pydantic import ConfigDict, Field
from typing_extensions import Literal

from vllm.entrypoints.openai.protocol.base import Answer, Refusal, RequestBody, RequestPart


class InputItem(RequestPart):
    """A message, a call, its output or reasoning. Other types are refused."""

    model_config = ConfigDict(extra="allow")
    type: Optional[str] = Field(None, description="message if not given")
    role: Optional[str] = None
    content: Union[str, List[Dict[str, Any]], None] = None
    call_id: Optional[str] = None
    name: Optional[str] = None
    arguments: Optional[str] = None
    output: Union[str, List[Dict[str, Any]], None] = None


class OfferedFunction(RequestPart):
    """A function that the model may call; parameters: a JSON schema of its arguments."""

    model_config = ConfigDict(extra="allow")
    type: str
    name: Optional[str] = None
    description: Optional[str] = None
    parameters: Optional[Dict[str, Any]] = None
    strict: Optional[bool] = None


class ChosenFunction(RequestPart):
    """The function that the model must call."""

    type: Literal["function"]
    name: str


class TextFormat(RequestPart):
    """The format of the text."""

    model_config = ConfigDict(extra="allow")
    type: Literal["text", "json_object", "json_schema"]
    name: Optional[str] = None
    json_schema: Optional[Dict[str, Any]] = Field(default=None, alias="schema")


class TextConfig(RequestPart):
    """verbosity: 'medium' has no effect; other values are refused."""

    format: Optional[TextFormat] = None
    verbosity: Optional[Literal["medium"]] = None


class ReasoningConfig(RequestPart):
    """effort: passed to the model's template; 'none' disables thinking there."""

    model_config = ConfigDict(extra="allow")
    effort: Optional[str] = None


class ResponsesRequest(RequestBody):
    """The input: a text or items; with previous_response_id, only what is new since it."""

    REFUSED: ClassVar[Mapping[str, Refusal]] = {
        "context_management": Refusal("conversations are not edited"),
        "conversation": Refusal("use previous_response_id"),
        "max_tool_calls": Refusal("this server calls no tools itself"),
        "moderation": Refusal("this server has no moderation"),
        "prompt": Refusal("this server stores no prompts"),
        "top_logprobs": Refusal("/v1/chat/completions has them", (0,)),
        "truncation": Refusal("conversations are not truncated", ("disabled",)),
    }
    WITHOUT_EFFECT: ClassVar[Tuple[str, ...]] = (
        *RequestBody.WITHOUT_EFFECT,
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "service_tier",
        "stream_options",
    )

    input: Union[str, List[InputItem]]
    instructions: Optional[str] = Field(None, description="a system message before all others")
    previous_response_id: Optional[str] = Field(None, max_length=200)
    tools: Optional[List[OfferedFunction]] = Field(
        None, description="functions that the model may call"
    )
    tool_choice: Union[Literal["none", "auto", "required"], ChosenFunction, None] = None
    parallel_tool_calls: Optional[bool] = Field(True, description="false: at most one call")
    text: Optional[TextConfig] = None
    reasoning: Optional[ReasoningConfig] = None
    include: Optional[List[str]] = Field(
        None, description="message.output_text.logprobs is refused; other values have no effect"
    )
    max_output_tokens: Optional[int] = Field(
        None, ge=1, description="as many as fit in the model's context if not given"
    )
    temperature: Optional[float] = Field(None, ge=0, le=100, description="0 is greedy")
    top_p: Optional[float] = Field(None, gt=0, le=1)
    top_k: Optional[int] = Field(None, ge=-1, description="-1 and 0 are all tokens")
    seed: Optional[int] = Field(None, ge=-(2**63), lt=2**63)
    metadata: Optional[Dict[str, str]] = Field(None, description="returned with the response")
    stream: Optional[bool] = False
    store: Optional[bool] = Field(True, description="store the response for later requests")
    background: Optional[bool] = Field(
        False, description="return at once; the client polls the response until it has ended"
    )


class InputTokensDetails(Answer):
    """cached_tokens: input tokens found in the prefix cache."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputTokensDetails(Answer):
    """reasoning_tokens: the number of tokens of the reasoning's text."""

    reasoning_tokens: int


class ResponseUsage(Answer):
    """Numbers of tokens of a request."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ResponseError(Answer):
    """Why a response failed."""

    code: str
    message: str


class IncompleteDetails(Answer):
    """Why a response is incomplete."""

    reason: str


class ResponseAnswer(Answer):
    """A response.

    status: in_progress, completed, incomplete, failed or cancelled.
    output: items of type message, reasoning or function_call.
    """

    id: str
    object: str = "response"
    created_at: int
    status: str
    background: bool
    error: Optional[ResponseError] = None
    incomplete_details: Optional[IncompleteDetails] = None
    instructions: Optional[str] = None
    max_output_tokens: Optional[int] = None
    metadata: Optional[Dict[str, str]] = None
    model: str
    output: List[Dict[str, Any]] = Field(default_factory=list)
    parallel_tool_calls: bool
    previous_response_id: Optional[str] = None
    reasoning: Optional[Dict[str, Any]] = None
    store: bool
    temperature: Optional[float] = None
    text: Dict[str, Any]
    tool_choice: Any
    tools: List[Dict[str, Any]]
    top_p: Optional[float] = None
    truncation: str = "disabled"
    usage: Optional[ResponseUsage] = None

    def json_text(self) -> str:
        return self.model_dump_json()  # missing fields are null, as in OpenAI's API


class DeletedResponse(Answer):
    """Confirms that a response was deleted."""

    id: str
    object: str = "response"
    deleted: bool
