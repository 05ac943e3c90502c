"""Converts prompts of requests to token ids. Long ones take milliseconds: callers use a thread."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Union
from typing import Sequence as SequenceOf

from vllm.engine.async_engine import SHORT_TEXT, SHORT_TOKENS
from vllm.entrypoints.openai.errors import ApiError, from_exception
from vllm.entrypoints.openai.protocol.chat import ChatMessage, ChatRequest, TemplateFields
from vllm.entrypoints.openai.protocol.completions import CompletionRequest
from vllm.entrypoints.openai.served import Served
from vllm.text.prompts import check_length, encode_prompt
from vllm.text.template_sandbox import SANDBOX

# OpenAI's newer name of the system role, which templates do not support.
_ROLES = {"developer": "system"}


class EncodedPrompt(NamedTuple):
    """text: None if the request had token ids, or if the prompt was truncated."""

    text: Optional[str]
    token_ids: List[int]

    def for_engine(self, cache_salt: Optional[str]) -> Dict[str, Any]:
        found: Dict[str, Any] = {"prompt_token_ids": self.token_ids}
        if self.text is not None:
            found["prompt"] = self.text
        if cache_salt is not None:
            found["cache_salt"] = cache_salt
        return found


def is_short(prompt: Union[str, List[Any]]) -> bool:
    """Whether encoding a prompt directly takes less time than handing it to a thread."""
    if isinstance(prompt, str):
        return len(prompt) <= SHORT_TEXT
    return len(prompt) <= SHORT_TOKENS and isinstance((prompt or [""])[0], int)


def is_short_chat(body: ChatRequest) -> bool:
    """Whether rendering and encoding a conversation directly takes less time than handing it to a
    thread. That is so for the model's own template, unless its process has something to do."""
    texts = [message.content for message in body.messages]
    return (
        body.chat_template is None
        and not body.tools
        and not body.documents
        and sum(len(text) if isinstance(text, str) else SHORT_TEXT for text in texts) < SHORT_TEXT
        and not SANDBOX.is_busy
    )


def of_completion(served: Served, body: CompletionRequest) -> List[EncodedPrompt]:
    """The prompts of a completion request. Raises ApiError."""
    given: Any = body.prompt
    several = isinstance(given, list) and (not given or not isinstance(given[0], int))
    prompts: List[Union[str, List[int]]] = given if several else [given]
    if not prompts:
        raise ApiError(400, "prompt must hold at least one prompt, got none", param="prompt")
    served.admission.check((body.n or 1) * len(prompts))  # before thousands of them are encoded
    kept = _longest_kept(served, body.truncate_prompt_tokens)
    encoded = []
    for index, prompt in enumerate(prompts):
        text = prompt if isinstance(prompt, str) else None
        try:
            ids = prompt
            if isinstance(prompt, str):
                special = body.add_special_tokens is not False
                ids = _encoded(served, prompt, special, kept)
            encoded.append(_checked(served, text, ids, kept))
        except ValueError as error:
            where = f"prompt {index}: " if several else ""
            code = from_exception(error).code
            raise ApiError(400, f"{where}{error}", param="prompt", code=code) from error
    return encoded


def of_chat(
    served: Served,
    conversation: List[ChatMessage],
    body: TemplateFields,
    *,
    tools: SequenceOf[Mapping[str, Any]] = (),
    truncate: Optional[int] = None,
    check: bool = True,
) -> EncodedPrompt:
    """Renders a conversation to a prompt. Raises ApiError.

    tools: definitions of tools for the template.
    check: reject a prompt that leaves no room for an answer.
    """
    if body.chat_template is not None and not served.options.trust_request_chat_template:
        raise ApiError(
            400,
            "chat_template is refused: a template is code, and this server runs its model's own "
            "only (--trust-request-chat-template)",
            param="chat_template",
        )
    kept = _longest_kept(served, truncate)
    variables: Dict[str, Any] = dict(body.chat_template_kwargs or {})
    if body.reasoning_effort is not None:
        variables.setdefault("reasoning_effort", body.reasoning_effort)
    try:
        text = served.tokenizer.apply_chat_template(
            [_message(message) for message in conversation],
            template=body.chat_template or served.options.chat_template,
            tools=tools or None,
            documents=body.documents,
            add_generation_prompt=body.add_generation_prompt is not False,
            continue_final_message=bool(body.continue_final_message),
            **variables,
        )
        special = bool(body.add_special_tokens)
        if not check:
            return EncodedPrompt(text, served.tokenizer.encode(text, add_special_tokens=special))
        return _checked(served, text, _encoded(served, text, special, kept), kept)
    except TypeError as error:  # reserved chat_template_kwargs
        raise from_exception(ValueError(str(error)), type(body).model_fields) from error
    except ValueError as error:
        raise from_exception(error, type(body).model_fields) from error


def _longest_kept(served: Served, truncate: Optional[int]) -> Optional[int]:
    """The tokens to which a prompt is truncated; None if it is not. Raises ApiError."""
    longest = served.max_model_len - 1
    if truncate is None:
        return None
    if truncate == -1:
        return longest
    if not 1 <= truncate <= longest:
        raise ApiError(
            400,
            f"truncate_prompt_tokens must be in [1, {longest}], which leaves room for one more "
            f"token, or -1 for as many as fit, got {truncate}",
            param="truncate_prompt_tokens",
        )
    return truncate


def _encoded(served: Served, text: str, special: bool, kept: Optional[int]) -> List[int]:
    """The tokens of a text. Raises ValueError at once if they cannot fit.

    A text that is truncated is encoded as a whole, for its last tokens may depend on any text
    before them: digits are grouped from the left, and a tokenizer without words merges anywhere.
    Only `max_request_bytes` limits it.
    """
    tokenizer = served.tokenizer
    if kept is None:
        check_length(text, tokenizer, served.max_model_len)
    return tokenizer.encode(text, add_special_tokens=special)


def _checked(served: Served, text: Optional[str], ids: Any, kept: Optional[int]) -> EncodedPrompt:
    if kept is not None and len(ids) > kept:
        ids, text = ids[-kept:], None
    vocab_size = served.engine.model_config.vocab_size
    _, checked = encode_prompt(ids, None, vocab_size=vocab_size, max_model_len=served.max_model_len)
    return EncodedPrompt(text, checked)


def _message(message: ChatMessage) -> Mapping[str, Any]:
    found = message.model_dump(exclude_unset=True)
    found["role"] = _ROLES.get(message.role, message.role)
    return found
