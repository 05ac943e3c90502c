"""Prompts as mappings, under vLLM's names."""

from __future__ import annotations

from typing import List, Optional, TypedDict, Union


class TextPrompt(TypedDict):
    """A prompt as text.

    prompt: what the model is to continue.
    """

    prompt: str


class _TokensPrompt(TypedDict):
    prompt_token_ids: List[int]


class TokensPrompt(_TokensPrompt, total=False):
    """A prompt as tokens.

    prompt_token_ids: what the model is to continue.
    prompt: the same as text, for the record only.
    """

    prompt: Optional[str]


PromptType = Union[str, List[int], TextPrompt, TokensPrompt]
