"""Reads and checks a prompt in any of its forms."""

from __future__ import annotations

import operator
from collections import abc
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union
from typing import Sequence as SequenceOf

from vllm.errors import ContextLengthError
from vllm.numbers import as_integer
from vllm.text.messages import Message
from vllm.text.tokenizer import Tokenizer

# Of vLLM's prompts, what these models cannot use.
_UNSUPPORTED = {
    "prompt_embeds": "a prompt is text or token ids",
    **dict.fromkeys(
        ("multi_modal_data", "multi_modal_uuids", "mm_processor_kwargs"), "models take text only"
    ),
    **dict.fromkeys(
        ("encoder_prompt", "decoder_prompt"), "models have a decoder only, which takes one prompt"
    ),
}

# Text; token ids; or a mapping with "prompt", "prompt_token_ids" or both (the text is then only
# copied to outputs), and optionally a "cache_salt".
Prompt = Union[str, SequenceOf[int], Mapping[str, object]]


def encode_prompt(
    prompt: Prompt, tokenizer: Optional[Tokenizer], *, vocab_size: int, max_model_len: int
) -> Tuple[Optional[str], List[int]]:
    """The text (None if only token ids were given) and the token ids. Raises ValueError,
    ContextLengthError for a prompt that is too long."""
    text, ids = _parts(prompt)
    if ids is None:
        if not text:
            raise ValueError("the prompt is empty: give at least one character or token")
        if tokenizer is None:
            raise ValueError(
                "the prompt is text, but this engine has no tokenizer (skip_tokenizer_init): "
                "pass token ids"
            )
        check_length(text, tokenizer, max_model_len)
        ids = tokenizer.encode(text)
    if not ids:
        raise ValueError("the prompt is empty: give at least one character or token")
    token_ids = ids
    if operator.countOf(map(type, ids), int) < len(ids) or min(ids) < 0 or max(ids) >= vocab_size:
        token_ids = [_token_id(place, given, vocab_size) for place, given in enumerate(ids)]
    if len(ids) >= max_model_len:
        raise _too_long(f"{len(ids)} tokens", max_model_len)
    return text, token_ids


def check_length(text: str, tokenizer: Tokenizer, max_model_len: int) -> None:
    """Raises ContextLengthError for a text so long that it need not be encoded to know that it does
    not fit."""
    if len(text) < max_model_len:
        return
    fewest = tokenizer.fewest_tokens(text)
    if fewest >= max_model_len:
        what = f"{len(text):,} characters, which are at least {fewest} tokens"
        raise _too_long(what, max_model_len)


def _too_long(what: str, max_model_len: int) -> ContextLengthError:
    """Clients recognize it by its first words, or by those of the maximum."""
    return ContextLengthError(
        f"the prompt is too long: it has {what}, and this model's maximum context length is "
        f"{max_model_len} tokens (max_model_len), one of which is for the answer"
    )


def _token_id(position: int, given: Any, vocab_size: int) -> int:
    token = as_integer(given)
    if token is None or not 0 <= token < vocab_size:
        raise ValueError(
            f"prompt token {position} must be an integer in [0, {vocab_size}), got {given!r}"
        )
    return token


def chat_prompt(
    tokenizer: Optional[Tokenizer],
    messages: SequenceOf[Message],
    /,
    *,
    chat_template: Optional[str] = None,
    **options: Any,
) -> Dict[str, Any]:
    """The prompt for a conversation, as text and as token ids.

    chat_template: the name of one of the model's templates, or Jinja source to use instead.
    options: further arguments of `Tokenizer.apply_chat_template`.
    Raises ValueError without a tokenizer or a template, and if the template refuses the messages.
    """
    if tokenizer is None:
        raise ValueError(
            "a conversation needs the tokenizer's chat template, but this engine has no tokenizer "
            "(skip_tokenizer_init): use generate with token ids"
        )
    text = tokenizer.apply_chat_template(messages, template=chat_template, **options)
    ids = tokenizer.encode(text, add_special_tokens=False)  # the template contains them
    return {"prompt": text, "prompt_token_ids": ids}


def cache_salt_of(prompt: Prompt) -> str:
    """The cache salt of a prompt; "" without one. Raises ValueError."""
    salt = prompt.get("cache_salt") if isinstance(prompt, abc.Mapping) else None
    if salt is not None and not (isinstance(salt, str) and salt):
        raise ValueError(f"cache_salt must be a non-empty text, got {salt!r}")
    return salt or ""


def as_prompts(prompts: Union[Prompt, SequenceOf[Prompt]]) -> List[Prompt]:
    """A list of prompts, from one prompt in any of its forms or from several."""
    if isinstance(prompts, (str, Mapping)):
        return [prompts]
    items = _items(prompts)
    if items is None:
        raise ValueError(
            f"prompts must be text, token ids, a mapping, or several of them, got {prompts!r}"
        )
    if items and all(as_integer(item) is not None for item in items):
        return [items]
    return items


def _parts(prompt: Prompt) -> Tuple[Optional[str], Optional[List[int]]]:
    if isinstance(prompt, str):
        return prompt, None
    if isinstance(prompt, abc.Mapping):
        for name, why in _UNSUPPORTED.items():
            if prompt.get(name) is not None:
                raise ValueError(f"{name!r} of a prompt mapping is not supported: {why}")
        names = prompt.keys() - {"cache_salt", *_UNSUPPORTED}
        if names - {"prompt", "prompt_token_ids"} or not names:
            raise ValueError(
                f"a prompt mapping has 'prompt', 'prompt_token_ids' or both, got {sorted(prompt)}"
            )
        text, ids = prompt.get("prompt"), prompt.get("prompt_token_ids")
        if text is not None and not isinstance(text, str):
            raise ValueError(f"'prompt' of a prompt mapping is text, got {text!r}")
        return text, None if ids is None else _listed("'prompt_token_ids'", "token ids", ids)
    return None, _listed("a prompt", "text, token ids or a mapping", prompt)


def _listed(what: str, expected: str, ids: Any) -> List[Any]:
    items = None if isinstance(ids, (str, abc.Mapping)) else _items(ids)
    if items is None:
        raise ValueError(f"{what} is {expected}, got {type(ids).__name__}")
    return items


def _items(value: Any) -> Optional[List[Any]]:
    """The items of a list, array or tensor; None for a value without ordered items."""
    if isinstance(value, (bytes, bytearray, abc.Set)) or not isinstance(value, abc.Iterable):
        return None
    if hasattr(value, "tolist"):  # of NumPy and torch: Python's own numbers at once
        items = value.tolist()
        return items if isinstance(items, list) else None
    return list(value)
