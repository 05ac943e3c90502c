"""Converts the messages of a conversation to plain data for templates. Text only."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Mapping
from typing import Sequence as SequenceOf

from vllm.numbers import as_integer, as_real

# {"role": "user", "content": "…"}, and any further fields that the template uses.
Message = Mapping[str, Any]

# The types of parts that are text, and the field that has it: those of chats, of /v1/responses, and
# of an answer that a client sends back.
_TEXT_FIELDS = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
}
# The names that templates and clients use for the reasoning of a message.
_REASONING = ("reasoning_content", "thinking", "reasoning")


def plain_messages(messages: SequenceOf[Message]) -> List[Dict[str, Any]]:
    """A copy of a conversation that consists of JSON types only.

    Fields that are None are left out, because many templates would print them. `content` is text or
    a list of parts {"type": "text", "text": …}, to which other parts with text are converted; a
    tool's content may be other data. Raises ValueError naming the message, and the type of a part
    that is not text.
    """
    if isinstance(messages, (str, Mapping)):
        raise ValueError(f"messages must be a list of mappings, got {messages!r}")
    if not messages:
        raise ValueError("messages must hold at least one message, got none")
    return [_message(f"messages[{index}]", given) for index, given in enumerate(messages)]


def _message(where: str, given: Any) -> Dict[str, Any]:
    message = plain(given)
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise ValueError(f"{where} must be a mapping with a role, got {given!r}")
    message = {name: value for name, value in message.items() if value is not None}
    content = message.get("content")
    if isinstance(content, list):
        if message["role"] != "tool" or any(_has_type(part) for part in content):
            message["content"] = [
                _text_part(f"{where}.content[{index}]", part) for index, part in enumerate(content)
            ]
    elif content is not None and not isinstance(content, (str, dict)):
        raise ValueError(f"{where}.content must be text or a list of parts, got {content!r}")
    thought = next((message[name] for name in _REASONING if name in message), None)
    if thought is not None:
        message = {"thinking": thought, **message, "reasoning_content": thought}
    return message


def _has_type(part: Any) -> bool:
    return isinstance(part, dict) and "type" in part


def _text_part(where: str, part: Any) -> Dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not _has_type(part):
        raise ValueError(f"{where} must be a mapping with a type, got {part!r}")
    field = _TEXT_FIELDS.get(str(part["type"]))
    if field is None:
        raise ValueError(f"{where} is of type {part['type']!r}: this engine takes only text")
    if not isinstance(part.get(field), str):
        raise ValueError(f"{where} must have its text under {field!r}, got {part!r}")
    return {**part, "type": "text", "text": part[field]}


def joined_text(content: SequenceOf[Mapping[str, Any]]) -> str:
    """The texts of the parts, joined by newlines."""
    return "\n".join(part["text"] for part in content)


def plain(value: Any) -> Any:
    """Converts a value to JSON types. A template must not get objects with methods.

    Raises ValueError for a value that cannot be converted.
    """
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    for number in (as_integer(value), as_real(value)):
        if number is not None:
            return number
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    for method in ("model_dump", "tolist"):  # of pydantic; of NumPy and torch
        if callable(getattr(value, method, None)):
            return plain(getattr(value, method)())
    raise ValueError(f"a template's variables must be JSON data, got {value!r}")
