"""The fields by which a request says how its text is chosen, and when it ends."""

from __future__ import annotations

from typing import Any, ClassVar, Dict, List, Mapping, Optional, Tuple, Union

from pydantic import Field

from vllm.config import GenerationDefaults
from vllm.entrypoints.openai.protocol.base import Answer, Refusal, RequestBody
from vllm.sampling_params import MAX_LOGPROBS, RequestOutputKind, SamplingParams

REFUSED: Mapping[str, Refusal] = {
    "allowed_token_ids": Refusal("this engine has no lists of allowed tokens", ([],)),
    "bad_words": Refusal("this engine forbids no words", ([],)),
    "best_of": Refusal("ask for n, and choose", (1,)),
    "cache_salt": Refusal("the prefix cache is shared by all requests"),
    "guided_choice": Refusal("this server has no structured outputs"),
    "guided_grammar": Refusal("this server has no structured outputs"),
    "guided_json": Refusal("this server has no structured outputs"),
    "guided_regex": Refusal("this server has no structured outputs"),
    "kv_transfer_params": Refusal("the cache stays where it is"),
    "length_penalty": Refusal("there is no beam search", (1, 1.0)),
    "logit_bias": Refusal("this engine adds nothing to logits", ({},)),
    "logits_processors": Refusal("a request brings no code"),
    "priority": Refusal("requests are served in the order of their arrival", (0,)),
    "repetition_detection": Refusal("the engine does not look for loops"),
    "response_format": Refusal("this server has no structured outputs", ({"type": "text"},)),
    "structured_outputs": Refusal("this server has no structured outputs"),
    "use_beam_search": Refusal("there is no beam search", (False,)),
    "vllm_xargs": Refusal("the engine has no plugins", ({},)),
}

# Fields that `SamplingParams` has under the same name.
_SAME_NAME = (
    "n",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "stop",
    "stop_token_ids",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "include_stop_str_in_output",
    "ignore_eos",
    "min_tokens",
    "skip_special_tokens",
)


class StreamOptions(Answer):
    """include_usage: a last event with the request's tokens; continuous_usage_stats: in each."""

    include_usage: Optional[bool] = False
    continuous_usage_stats: Optional[bool] = False


class SamplingFields(RequestBody):
    """What /v1/completions and /v1/chat/completions have in common."""

    WITHOUT_EFFECT: ClassVar[Tuple[str, ...]] = (
        *RequestBody.WITHOUT_EFFECT,
        "prompt_cache_key",
        "service_tier",
        "spaces_between_special_tokens",
        "store",
    )

    n: Optional[int] = Field(1, ge=1, description="continuations, each with its own draws")
    temperature: Optional[float] = Field(None, ge=0, le=100, description="0 is greedy")
    top_p: Optional[float] = Field(None, gt=0, le=1)
    top_k: Optional[int] = Field(None, ge=-1, description="-1 and 0 are all tokens")
    min_p: Optional[float] = Field(None, ge=0, le=1)
    seed: Optional[int] = Field(None, ge=-(2**63), lt=2**63)
    stop: Union[str, List[str], None] = None
    stop_token_ids: Optional[List[int]] = None
    presence_penalty: Optional[float] = Field(None, ge=-2, le=2)
    frequency_penalty: Optional[float] = Field(None, ge=-2, le=2)
    repetition_penalty: Optional[float] = Field(None, gt=0, le=10)
    include_stop_str_in_output: Optional[bool] = None
    ignore_eos: Optional[bool] = None
    min_tokens: Optional[int] = Field(None, ge=0)
    skip_special_tokens: Optional[bool] = None
    prompt_logprobs: Optional[int] = Field(None, ge=0, le=MAX_LOGPROBS)
    truncate_prompt_tokens: Optional[int] = Field(
        None, ge=-1, description="keep this many tokens of the prompt's end; -1: as many as fit"
    )
    stream: Optional[bool] = False
    stream_options: Optional[StreamOptions] = None
    return_tokens_as_token_ids: Optional[bool] = Field(
        None, description="tokens of log-probabilities as 'token_id:N'"
    )
    request_id: Optional[str] = Field(
        None, max_length=128, description="the end of the answer's id"
    )

    @property
    def includes_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def continues_usage(self) -> bool:
        return self.includes_usage and bool(
            self.stream_options and self.stream_options.continuous_usage_stats
        )

    def sampling_params(self, defaults: GenerationDefaults, **computed: Any) -> SamplingParams:
        """For the engine. What is not given is what the model's makers advise.

        computed: fields that follow from more than one of the request's. Raises ValueError.
        """
        fields: Dict[str, Any] = {name: getattr(self, name) for name in _SAME_NAME}
        given = {name: value for name, value in fields.items() if value is not None}
        kind = RequestOutputKind.DELTA if self.stream else RequestOutputKind.FINAL_ONLY
        return defaults.params(**given, **computed, output_kind=kind)
