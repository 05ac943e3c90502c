"""/tokenize and /detokenize"""

from __future__ import annotations

from typing import List, Optional

from pydantic import Field

from vllm.entrypoints.openai.protocol.base import Answer, RequestBody
from vllm.entrypoints.openai.protocol.chat import ChatMessage, TemplateFields


class TokenizeRequest(TemplateFields, RequestBody):
    """A text, or a conversation, which the model's template renders to text."""

    prompt: Optional[str] = None
    messages: Optional[List[ChatMessage]] = None
    add_special_tokens: Optional[bool] = Field(None, description="by default only with a prompt")
    return_token_strs: Optional[bool] = False


class TokenizeAnswer(Answer):
    """token_strs: each token's text, with return_token_strs."""

    count: int
    max_model_len: int
    tokens: List[int]
    token_strs: Optional[List[str]] = None


class DetokenizeRequest(RequestBody):
    """Token ids."""

    tokens: List[int]


class DetokenizeAnswer(Answer):
    """The text, special tokens included."""

    prompt: str
