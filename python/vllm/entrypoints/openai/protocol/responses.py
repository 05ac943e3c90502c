"""/v1/responses"""

from __future__ import annotations

from typing import Any, ClassVar, Dict, List, Mapping, Optional, Tuple, Union

from pydantic import ConfigDict, Field
from typing_extensions import Literal

from vllm.entrypoints.openai.protocol.base import Answer, Refusal, RequestBody, RequestPart


class InputItem(RequestPart):
    """A message, a call, its output or a reasoning. Others are refused."""

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
    """The function that has to be called."""

    type: Literal["function"]
    name: str


class TextFormat(RequestPart):
    """What the text conforms to."""

    model_config = ConfigDict(extra="allow")
    type: Literal["text", "json_object", "json_schema"]
    name: Optional[str] = None
    json_schema: Optional[Dict[str, Any]] = Field(default=None, alias="schema")


class TextConfig(RequestPart):
    """verbosity: 'medium' asks for nothing; others are refused."""

    format: Optional[TextFormat] = None
    verbosity: Optional[Literal["medium"]] = None


class ReasoningConfig(RequestPart):
    """effort: for the model's template; 'none' asks it not to think."""

    model_config = ConfigDict(extra="allow")
    effort: Optional[str] = None


class ResponsesRequest(RequestBody):
    """What to answer: a text, or items; or what is new since an earlier response."""

    REFUSED: ClassVar[Mapping[str, Refusal]] = {
        "context_management": Refusal("a conversation is taken as it is"),
        "conversation": Refusal("go on with previous_response_id"),
        "max_tool_calls": Refusal("this server calls no tools itself"),
        "moderation": Refusal("this server moderates nothing"),
        "prompt": Refusal("this server keeps no prompts"),
        "top_logprobs": Refusal("/v1/chat/completions has them", (0,)),
        "truncation": Refusal("a conversation is taken whole", ("disabled",)),
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
    tools: Optional[List[OfferedFunction]] = Field(None, description="functions to be called")
    tool_choice: Union[Literal["none", "auto", "required"], ChosenFunction, None] = None
    parallel_tool_calls: Optional[bool] = Field(True, description="false: at most one call")
    text: Optional[TextConfig] = None
    reasoning: Optional[ReasoningConfig] = None
    include: Optional[List[str]] = Field(
        None, description="message.output_text.logprobs is refused; all else is there anyway"
    )
    max_output_tokens: Optional[int] = Field(
        None, ge=1, description="as many as fit in the model's context if not given"
    )
    temperature: Optional[float] = Field(None, ge=0, le=100, description="0 is greedy")
    top_p: Optional[float] = Field(None, gt=0, le=1)
    top_k: Optional[int] = Field(None, ge=-1, description="-1 and 0 are all tokens")
    seed: Optional[int] = Field(None, ge=-(2**63), lt=2**63)
    metadata: Optional[Dict[str, str]] = Field(None, description="comes back with the response")
    stream: Optional[bool] = False
    store: Optional[bool] = Field(True, description="keep the response for later requests")
    background: Optional[bool] = Field(
        False, description="answer at once; the response is asked for until it has ended"
    )


class InputTokensDetails(Answer):
    """cached_tokens: those that the prefix cache spared."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputTokensDetails(Answer):
    """reasoning_tokens: those that the text of the reasoning takes."""

    reasoning_tokens: int


class ResponseUsage(Answer):
    """Tokens that a request took."""

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
    """Why a response is cut short."""

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
        return self.model_dump_json()  # with null for what it has not, as OpenAI's


class DeletedResponse(Answer):
    """A response that is no longer there."""

    id: str
    object: str = "response"
    deleted: bool
