"""Base classes of requests and responses: supported, refused and unknown fields."""

from __future__ import annotations

import logging
from typing import Any, ClassVar, Dict, Mapping, NamedTuple, Optional, Set, Tuple

from pydantic import BaseModel, ConfigDict, model_validator

from vllm.entrypoints.openai.errors import ApiError

logger = logging.getLogger(__name__)


class Refusal(NamedTuple):
    """A field of OpenAI or vLLM that this server does not support.

    neutral: values that are accepted because they need no missing feature; null always is.
    same_as: another field, whose value is neutral too.
    """

    reason: str
    neutral: Tuple[Any, ...] = ()
    same_as: str = ""


class RequestBody(BaseModel):
    """A request. Its declared fields are the supported ones.

    Fields in REFUSED raise `ApiError`. Fields in WITHOUT_EFFECT are accepted and ignored: they do
    not affect the response. Unknown fields are ignored too, and each is logged once.
    """

    model_config = ConfigDict(extra="allow", strict=True, protected_namespaces=())

    REFUSED: ClassVar[Mapping[str, Refusal]] = {}
    WITHOUT_EFFECT: ClassVar[Tuple[str, ...]] = ("user", "safety_identifier", "metadata")

    model: Optional[str] = None

    @model_validator(mode="after")
    def _look_at_other_fields(self) -> RequestBody:
        extra: Dict[str, Any] = self.model_extra or {}
        for name, value in extra.items():
            refusal = self.REFUSED.get(name)
            if refusal is None:
                if name not in self.WITHOUT_EFFECT:
                    _log_once(name)
            elif value is not None and not _is_one_of(value, self._neutral(refusal)):
                message = f"{name} is not supported: {refusal.reason}"
                raise ApiError(400, message, param=name, code="unsupported_parameter")
        return self

    def _neutral(self, refusal: Refusal) -> Tuple[Any, ...]:
        same = (getattr(self, refusal.same_as),) if refusal.same_as else ()
        return (*refusal.neutral, *same)


class RequestPart(BaseModel):
    """An object within a request. Types are strict: 0.0 is not accepted as false."""

    model_config = ConfigDict(strict=True)


class Answer(BaseModel):
    """A response, or a part of one. The JSON omits fields that are not set."""

    model_config = ConfigDict(protected_namespaces=())

    def json_text(self) -> str:
        return self.model_dump_json(exclude_unset=True)


class PromptTokensDetails(Answer):
    """cached_tokens: prompt tokens found in the prefix cache."""

    cached_tokens: int


class Usage(Answer):
    """Numbers of tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: Optional[PromptTokensDetails] = None


class ErrorDetails(Answer):
    """message: what happened, and what to do. param: the field that caused it."""

    message: str
    type: str
    param: Optional[str]
    code: Optional[str]


class ErrorAnswer(Answer):
    """The body of every response with a status of 400 or higher."""

    error: ErrorDetails


def _is_one_of(value: Any, neutral: Tuple[Any, ...]) -> bool:
    return any(type(value) is type(each) and value == each for each in neutral)


_logged: Set[str] = set()
# A client that sends random names must not fill the log or memory.
_MAX_LOGGED = 100


def _log_once(name: str) -> None:
    if name not in _logged and len(_logged) < _MAX_LOGGED:
        _logged.add(name)
        logger.warning("ignoring the unknown field %.80r (logged once)", name)
