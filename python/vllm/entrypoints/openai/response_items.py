"""Items of /v1/responses and messages of a chat, each made of the other."""

from __future__ import annotations

import secrets
from typing import Any, Dict, List, Optional, Union

from vllm.entrypoints.openai.blocks import Block, BlockKind
from vllm.entrypoints.openai.errors import ApiError
from vllm.entrypoints.openai.protocol.responses import InputItem

# Names of text among the parts of a message.
_TEXTS = ("input_text", "output_text", "text", "reasoning_text")


def as_messages(given: Union[str, List[InputItem]]) -> List[Dict[str, Any]]:
    """Messages for a template. Raises ApiError for what this engine does not take.

    What the assistant has thought, said and called without anybody coming between is one message.
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
    raise ApiError(
        400, f"{where} is of type {kind[:80]!r}, which this server does not take", param="input"
    )


def _text(where: str, content: Union[str, List[Dict[str, Any]], None]) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for place, part in enumerate(content):
        if part.get("type") not in _TEXTS or not isinstance(part.get("text"), str):
            raise ApiError(
                400,
                f"{where}.{place} is of type {str(part.get('type'))[:80]!r}: this engine takes "
                "only text, under 'text'",
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
    """The item of a block, as far as the block has come; its ids are its own for ever."""
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
    """What an item's content consists of; None for a call, which has none."""
    if block.kind is BlockKind.TEXT:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    if block.kind is BlockKind.REASONING:
        return {"type": "reasoning_text", "text": text}
    return None


def ended_item(item: Dict[str, Any], block: Block, *, is_whole: bool) -> Dict[str, Any]:
    """The item of a block that has ended, or was cut short."""
    part = part_of(block, block.text)
    filled: Dict[str, Any] = {"arguments": block.text} if part is None else {"content": [part]}
    return {**item, **filled, "status": "completed" if is_whole else "incomplete"}
