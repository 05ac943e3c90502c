"""Prompts as mappings, under vLLM's names."""

from __future__ import annotations

from typing import List, Optional, TypedDict, Union


class _TextPrompt(TypedDict):
    prompt: str


class TextPrompt(_TextPrompt, total=False):
    """A prompt as text.

    prompt: the text that the model continues.
    cache_salt: the prefix cache is shared only with prompts of the same salt.
    """

    cache_salt: str


class _TokensPrompt(TypedDict):
    prompt_token_ids: List[int]


class TokensPrompt(_TokensPrompt, total=False):
    """A prompt as tokens.

    prompt_token_ids: the tokens that the model continues.
    prompt: the same as text; it is only copied to the output.
    cache_salt: the prefix cache is shared only with prompts of the same salt.
    """

    prompt: Optional[str]
    cache_salt: str


PromptType = Union[str, List[int], TextPrompt, TokensPrompt]
