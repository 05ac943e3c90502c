"""/v1/chat/completions"""

from __future__ import annotations

from typing import Any, ClassVar, Dict, List, Mapping, Optional, Union

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import Literal

from vllm.entrypoints.openai.protocol import sampling
from vllm.entrypoints.openai.protocol.base import Answer, Refusal, RequestPart, Usage
from vllm.entrypoints.openai.protocol.completions import PromptLogprobs
from vllm.entrypoints.openai.protocol.tools import NamedTool, Tool, ToolCall
from vllm.sampling_params import MAX_LOGPROBS


class ContentPart(RequestPart):
    """A part of a message: {"type": "text", "text": "…"}."""

    model_config = ConfigDict(extra="allow")
    type: str
    text: Optional[str] = None


class ChatMessage(RequestPart):
    """A message; the template can read its further fields."""

    model_config = ConfigDict(extra="allow")
    role: str
    content: Union[str, List[Union[str, ContentPart]], None] = None


class TemplateFields(BaseModel):
    """Fields that define how a conversation is rendered to a prompt."""

    add_generation_prompt: Optional[bool] = Field(
        True, description="append the tokens that begin an assistant's message"
    )
    continue_final_message: Optional[bool] = Field(
        False, description="continue the last message; add_generation_prompt must be false"
    )
    add_special_tokens: Optional[bool] = Field(
        False, description="in addition to those of the template"
    )
    chat_template: Optional[str] = Field(
        None, description="Jinja source; refused unless the server allows it"
    )
    documents: Optional[List[Dict[str, Any]]] = Field(
        None, description="documents for the template"
    )
    reasoning_effort: Optional[str] = Field(None, description="for the template")
    chat_template_kwargs: Optional[Dict[str, Any]] = Field(
        None, description="further variables for the template"
    )


class ChatRequest(TemplateFields, sampling.SamplingFields):
    """A conversation to answer."""

    REFUSED: ClassVar[Mapping[str, Refusal]] = {
        **sampling.REFUSED,
        "audio": Refusal("these models write text only"),
        "function_call": Refusal("it is called tool_choice now", ("none",)),
        "functions": Refusal("they are called tools now", ([],)),
        "mm_processor_kwargs": Refusal("these models read text only"),
        "modalities": Refusal("these models write text only", (["text"],)),
        "prediction": Refusal("there is no speculative decoding"),
        "verbosity": Refusal("ask for it in a message"),
        "web_search_options": Refusal("this server has no web search"),
    }

    messages: List[ChatMessage]
    max_completion_tokens: Optional[int] = Field(
        None, ge=1, description="as many as fit in the model's context if not given"
    )
    max_tokens: Optional[int] = Field(
        None, ge=1, description="the older name of max_completion_tokens"
    )
    logprobs: Optional[bool] = False
    top_logprobs: Optional[int] = Field(None, ge=0, le=MAX_LOGPROBS)
    tools: Optional[List[Tool]] = Field(None, description="functions that the model may call")
    tool_choice: Union[Literal["none", "auto", "required"], NamedTool, None] = Field(
        None, description="auto if there are tools"
    )
    parallel_tool_calls: Optional[bool] = Field(True, description="false: at most one call")
    include_reasoning: Optional[bool] = Field(True, description="false: omit the reasoning")
    echo: Optional[bool] = Field(
        False, description="begin the answer with the message that it continues"
    )


class TokenLogprob(Answer):
    """bytes: those of the token; a character may need those of several."""

    token: str
    logprob: float
    bytes: List[int]


class ChatLogprob(TokenLogprob):
    """The sampled token, and the most likely tokens of its position."""

    top_logprobs: List[TokenLogprob]


class ChatLogprobs(Answer):
    """One entry per token of the message."""

    content: Optional[List[ChatLogprob]]


class AnswerMessage(Answer):
    """The answer, or in a stream a delta."""

    role: Optional[str] = None
    content: Optional[str] = None
    refusal: Optional[str] = None
    reasoning: Optional[str] = None
    reasoning_content: Optional[str] = Field(
        default=None, description="the older name of reasoning"
    )
    tool_calls: Optional[List[ToolCall]] = None


class ChatChoice(Answer):
    """One answer to the conversation."""

    index: int
    message: AnswerMessage
    logprobs: Optional[ChatLogprobs]
    finish_reason: Optional[str]
    stop_reason: Union[int, str, None] = None


class ChatAnswer(Answer):
    """A whole response."""

    id: str
    object: str = "chat.completion"
    created: int
    model: str
    choices: List[ChatChoice]
    usage: Usage
    prompt_logprobs: Optional[PromptLogprobs] = None


class ChatChunkChoice(Answer):
    """The delta of one answer."""

    index: int
    delta: AnswerMessage
    logprobs: Optional[ChatLogprobs]
    finish_reason: Optional[str]
    stop_reason: Union[int, str, None] = None


class ChatChunk(Answer):
    """One event of a stream."""

    id: str
    object: str = "chat.completion.chunk"
    created: int
    model: str
    choices: List[ChatChunkChoice]
    usage: Optional[Usage] = None
