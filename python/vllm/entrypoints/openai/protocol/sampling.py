"""Request fields for sampling and stop conditions."""

from __future__ import annotations

from typing import Any, ClassVar, Dict, List, Mapping, Optional, Tuple, Union

from pydantic import ConfigDict, Field
from typing_extensions import Literal

from vllm.config import GenerationDefaults
from vllm.entrypoints.openai.protocol.base import Refusal, RequestBody, RequestPart
from vllm.sampling_params import MAX_LOGPROBS, RequestOutputKind, SamplingParams
from vllm.structured_outputs import StructuredOutputsParams

REFUSED: Mapping[str, Refusal] = {
    "best_of": Refusal("request n outputs and choose among them", (1,), same_as="n"),
    "guided_choice": Refusal("it is structured_outputs.choice now"),
    "guided_grammar": Refusal("it is structured_outputs.grammar now"),
    "guided_json": Refusal("it is structured_outputs.json now"),
    "guided_regex": Refusal("it is structured_outputs.regex now"),
    "kv_transfer_params": Refusal("the KV cache is not transferred between engines"),
    "length_penalty": Refusal("there is no beam search", (1, 1.0)),
    "logits_processors": Refusal("a request cannot contain code"),
    "repetition_detection": Refusal("the engine does not detect repetitions"),
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
    "logit_bias",
    "allowed_token_ids",
    "bad_words",
)


class StreamOptions(RequestPart):
    """include_usage: the last event has the usage; continuous_usage_stats: every event has it."""

    include_usage: Optional[bool] = False
    continuous_usage_stats: Optional[bool] = False


class JsonSchema(RequestPart):
    """A JSON schema, in OpenAI's format."""

    model_config = ConfigDict(extra="allow")
    json_schema: Dict[str, Any] = Field(alias="schema")


class ResponseFormat(RequestPart):
    """The format of an answer, in OpenAI's notation."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: Optional[JsonSchema] = None


class StructuredOutputs(RequestPart):
    """The format of an answer, in vLLM's notation: exactly one of these."""

    model_config = ConfigDict(extra="forbid")
    json_schema: Union[str, Dict[str, Any], None] = Field(default=None, alias="json")
    json_object: Optional[bool] = None
    regex: Optional[str] = None
    choice: Optional[List[str]] = None
    grammar: Optional[str] = None


class SamplingFields(RequestBody):
    """The common fields of /v1/completions and /v1/chat/completions."""

    WITHOUT_EFFECT: ClassVar[Tuple[str, ...]] = (
        *RequestBody.WITHOUT_EFFECT,
        "prompt_cache_key",
        "service_tier",
        "spaces_between_special_tokens",
        "store",
    )

    n: Optional[int] = Field(1, ge=1, description="continuations, sampled independently")
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
    logit_bias: Optional[Dict[str, float]] = Field(
        None, description="added to the logits of tokens, by token id; in [-100, 100]"
    )
    allowed_token_ids: Optional[List[int]] = None
    bad_words: Optional[List[str]] = None
    response_format: Optional[ResponseFormat] = None
    structured_outputs: Optional[StructuredOutputs] = None
    truncate_prompt_tokens: Optional[int] = Field(
        None, description="keep the last N tokens of the prompt, at least 1; -1: as many as fit"
    )
    cache_salt: Optional[str] = Field(
        None, min_length=1, description="share the prefix cache only with requests of the same salt"
    )
    priority: Optional[int] = Field(
        None,
        ge=-(2**63),
        lt=2**63,
        description="the lowest number is served first; 0 without --scheduling-policy priority",
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

    def _structured_outputs(self) -> Optional[StructuredOutputsParams]:
        """Raises ValueError for contradictions."""
        wanted, form = self.structured_outputs, self.response_format
        if form is None or form.type == "text":
            if wanted is None:
                return None
            given = {field: getattr(wanted, field) for field in type(wanted).model_fields}
            return StructuredOutputsParams(json=given.pop("json_schema"), **given)
        if wanted is not None:
            raise ValueError("response_format and structured_outputs cannot be combined")
        if form.type == "json_object":
            return StructuredOutputsParams(json_object=True)
        if form.json_schema is None:
            raise ValueError("response_format must have a json_schema if that is its type")
        return StructuredOutputsParams(json=form.json_schema.json_schema)

    def sampling_params(self, defaults: GenerationDefaults, **computed: Any) -> SamplingParams:
        """Parameters for the engine; fields that are not given have the value in `defaults`.

        computed: values derived from several fields of the request. Raises ValueError.
        """
        computed.setdefault("structured_outputs", self._structured_outputs())
        fields: Dict[str, Any] = {name: getattr(self, name) for name in _SAME_NAME}
        given = {name: value for name, value in fields.items() if value is not None}
        kind = RequestOutputKind.DELTA if self.stream else RequestOutputKind.FINAL_ONLY
        return defaults.params(**given, **computed, output_kind=kind)
