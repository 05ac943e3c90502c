"""/v1/completions"""

from __future__ import annotations

from typing import ClassVar, Dict, List, Mapping, Optional, Union

from pydantic import Field

from vllm.entrypoints.openai.protocol import sampling
from vllm.entrypoints.openai.protocol.base import Answer, Refusal, Usage
from vllm.sampling_params import MAX_LOGPROBS

# OpenAI's own default.
DEFAULT_MAX_TOKENS = 16


class CompletionRequest(sampling.SamplingFields):
    """Prompts to continue: a text, token ids, or several of either."""

    REFUSED: ClassVar[Mapping[str, Refusal]] = {
        **sampling.REFUSED,
        "prompt_embeds": Refusal("a prompt is text or token ids"),
        "suffix": Refusal("these models only continue text; they do not fill in the middle", ("",)),
    }

    prompt: Union[str, List[int], List[str], List[List[int]]]
    max_tokens: Optional[int] = Field(None, ge=0, description="16 if not given; 0 with echo only")
    echo: Optional[bool] = Field(False, description="the answer begins with the prompt")
    logprobs: Optional[int] = Field(None, ge=0, le=MAX_LOGPROBS)
    add_special_tokens: Optional[bool] = Field(
        True, description="such as the beginning-of-sequence token"
    )


class CompletionLogprobs(Answer):
    """One entry per token in each list; offsets are characters, from the start of the text."""

    text_offset: List[int]
    token_logprobs: List[Optional[float]]
    tokens: List[str]
    top_logprobs: List[Optional[Dict[str, float]]]


class PromptLogprob(Answer):
    """One token's log-probability at one position of the prompt."""

    logprob: float
    rank: int
    decoded_token: Optional[str]


# One entry per token of the prompt, by token id; null for the first.
PromptLogprobs = List[Optional[Dict[int, PromptLogprob]]]


class CompletionChoice(Answer):
    """One continuation; `index` counts over all prompts, n for each."""

    index: int
    text: str
    logprobs: Optional[CompletionLogprobs]
    finish_reason: Optional[str]
    stop_reason: Union[int, str, None] = None
    prompt_logprobs: Optional[PromptLogprobs] = None


class CompletionAnswer(Answer):
    """A whole response, or one event of a stream."""

    id: str
    object: str = "text_completion"
    created: int
    model: str
    choices: List[CompletionChoice]
    usage: Optional[Usage] = None
