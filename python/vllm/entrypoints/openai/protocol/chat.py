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
    """A message, with whatever else the model's template reads of it."""

    model_config = ConfigDict(extra="allow")
    role: str
    content: Union[str, List[ContentPart], None] = None


class TemplateFields(BaseModel):
    """How a conversation becomes a prompt."""

    add_generation_prompt: Optional[bool] = Field(True, description="begin the answer's turn")
    continue_final_message: Optional[bool] = Field(
        False, description="go on with the last message; add_generation_prompt must be false"
    )
    add_special_tokens: Optional[bool] = Field(
        False, description="beside those that the template has put"
    )
    chat_template: Optional[str] = Field(
        None, description="Jinja source; refused unless the server allows it"
    )
    documents: Optional[List[Dict[str, Any]]] = Field(
        None, description="what the model may quote, for the template"
    )
    reasoning_effort: Optional[str] = Field(None, description="for the template")
    chat_template_kwargs: Optional[Dict[str, Any]] = Field(
        None, description="what else the template may read"
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
        "prediction": Refusal("this engine does not speculate"),
        "verbosity": Refusal("say it in a message"),
        "web_search_options": Refusal("this server searches nothing"),
    }

    messages: List[ChatMessage]
    max_completion_tokens: Optional[int] = Field(
        None, ge=1, description="as many as fit in the model's context if not given"
    )
    max_tokens: Optional[int] = Field(None, ge=1, description="the older name of the same")
    logprobs: Optional[bool] = False
    top_logprobs: Optional[int] = Field(None, ge=0, le=MAX_LOGPROBS)
    tools: Optional[List[Tool]] = Field(None, description="functions that the model may call")
    tool_choice: Union[Literal["none", "auto", "required"], NamedTool, None] = Field(
        None, description="auto if there are tools"
    )
    parallel_tool_calls: Optional[bool] = Field(True, description="false: at most one call")
    include_reasoning: Optional[bool] = Field(True, description="false: leave it out")
    echo: Optional[bool] = Field(
        False, description="begin the answer with the message that it continues"
    )


class TokenLogprob(Answer):
    """bytes: null where the token holds a part of a character only."""

    token: str
    logprob: float
    bytes: Optional[List[int]]


class ChatLogprob(TokenLogprob):
    """The token that was drawn, and the most likely ones of its position."""

    top_logprobs: List[TokenLogprob]


class ChatLogprobs(Answer):
    """One entry per token of the message."""

    content: Optional[List[ChatLogprob]]


class AnswerMessage(Answer):
    """The answer, or in a stream what is new of it."""

    role: Optional[str] = None
    content: Optional[str] = None
    refusal: Optional[str] = None
    reasoning: Optional[str] = None
    reasoning_content: Optional[str] = Field(default=None, description="the same, as it was called")
    tool_calls: Optional[List[ToolCall]] = None


class ChatChoice(Answer):
    """One answer to the conversation."""

    index: int
    message: AnswerMessage
    logprobs: Optional[ChatLogprobs]
    finish_reason: Optional[str]
    stop_reason: Union[int, str, None] = None


class ChatAnswer(Answer):
    """A whole answer."""

    id: str
    object: str = "chat.completion"
    created: int
    model: str
    choices: List[ChatChoice]
    usage: Usage
    prompt_logprobs: Optional[PromptLogprobs] = None


class ChatChunkChoice(Answer):
    """What is new of one answer."""

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
