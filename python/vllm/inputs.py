"""Prompts as mappings, under vLLM's names."""

from __future__ import annotations

from typing import List, Optional, TypedDict, Union


class _TextPrompt(TypedDict):
    prompt: str


class TextPrompt(_TextPrompt, total=False):
    """A prompt as text.

    prompt: what the model is to continue.
    cache_salt: the prefix cache is shared only with prompts of the same salt.
    """

    cache_salt: str


class _TokensPrompt(TypedDict):
    prompt_token_ids: List[int]


class TokensPrompt(_TokensPrompt, total=False):
    """A prompt as tokens.

    prompt_token_ids: what the model is to continue.
    prompt: the same as text, for the record only.
    cache_salt: the prefix cache is shared only with prompts of the same salt.
    """

    prompt: Optional[str]
    cache_salt: str


PromptType = Union[str, List[int], TextPrompt, TokensPrompt]
