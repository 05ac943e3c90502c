"""Converts items of /v1/responses to chat messages, and content blocks to items."""

from __future__ import annotations

import secrets
from typing import Any, Dict, List, Optional, Union

from vllm.entrypoints.openai.blocks import Block, BlockKind
from vllm.entrypoints.openai.errors import ApiError
from vllm.entrypoints.openai.protocol.responses import InputItem

# Types of message parts that contain text.
_TEXTS = ("input_text", "output_text", "text", "reasoning_text")


def as_messages(given: Union[str, List[InputItem]]) -> List[Dict[str, Any]]:
    """Converts items to messages for a template. Raises ApiError for unsupported items.

    Consecutive items of the assistant (reasoning, text, calls) become one message.
    """
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    messages: List[Dict[str, Any]] = []
    for place, item in enumerate(given):
        message = _message(f"input.{place}", item)
        last = messages[-1] if messages else {}
        if message["role"] == "assistant" and last.get("role") == "assistant":
            _join(last, message)
        else:
            messages.append(message)
    return messages


def _message(where: str, item: InputItem) -> Dict[str, Any]:
    kind = item.type or "message"
    if kind == "message":
        if item.role is None:
            raise ApiError(400, f"{where}.role is missing", param="input")
        content = _text(f"{where}.content", item.content)
        return {"role": item.role, "content": content}
    if kind == "reasoning":
        thought = _text(f"{where}.content", item.content)
        return {"role": "assistant", "content": "", "reasoning_content": thought}
    if kind == "function_call":
        if item.name is None:
            raise ApiError(400, f"{where}.name is missing", param="input")
        function = {"name": item.name, "arguments": item.arguments or "{}"}
        call = {"id": item.call_id, "type": "function", "function": function}
        return {"role": "assistant", "content": "", "tool_calls": [call]}
    if kind == "function_call_output":
        output = _text(f"{where}.output", item.output)
        return {"role": "tool", "tool_call_id": item.call_id, "content": output}
    raise ApiError(400, f"{where} is of type {kind[:80]!r}, which is not supported", param="input")


def _text(where: str, content: Union[str, List[Dict[str, Any]], None]) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for place, part in enumerate(content):
        if part.get("type") not in _TEXTS or not isinstance(part.get("text"), str):
            raise ApiError(
                400,
                f"{where}.{place} is of type {str(part.get('type'))[:80]!r}: this engine takes "
                "only text, in the field 'text'",
                param="input",
            )
        texts.append(part["text"])
    return "".join(texts)


def _join(message: Dict[str, Any], more: Dict[str, Any]) -> None:
    message["content"] += more["content"]
    if "reasoning_content" in more:
        thought = message.get("reasoning_content", "") + more["reasoning_content"]
        message["reasoning_content"] = thought
    if "tool_calls" in more:
        message.setdefault("tool_calls", []).extend(more["tool_calls"])


def begun_item(block: Block) -> Dict[str, Any]:
    """A new, empty item for a block that begins; its ids never change."""
    token = secrets.token_hex(12)
    if block.kind is BlockKind.REASONING:
        return {"id": f"rs_{token}", "type": "reasoning", "summary": [], "content": []}
    if block.kind is BlockKind.TEXT:
        return {
            "id": f"msg_{token}",
            "type": "message",
            "role": "assistant",
            "status": "in_progress",
            "content": [],
        }
    return {
        "id": f"fc_{token}",
        "type": "function_call",
        "call_id": f"call_{secrets.token_hex(12)}",
        "name": block.name,
        "arguments": "",
        "status": "in_progress",
    }


def part_of(block: Block, text: str) -> Optional[Dict[str, Any]]:
    """The content part of a block's item; None for a call, which has no content."""
    if block.kind is BlockKind.TEXT:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    if block.kind is BlockKind.REASONING:
        return {"type": "reasoning_text", "text": text}
    return None


def ended_item(item: Dict[str, Any], block: Block, *, is_whole: bool) -> Dict[str, Any]:
    """The complete item of a block; `is_whole` is False if max_output_tokens cut it off."""
    part = part_of(block, block.text)
    filled: Dict[str, Any] = {"arguments": block.text} if part is None else {"content": [part]}
    return {**item, **filled, "status": "completed" if is_whole else "incomplete"}
