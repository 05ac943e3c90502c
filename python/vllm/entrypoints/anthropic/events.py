"""Content blocks of an answer in Anthropic's format: whole, and as events of a stream."""

from __future__ import annotations

import json
import secrets
from typing import Any, Dict, Iterator, List

from pydantic_core import from_json

from vllm.entrypoints.openai.blocks import Begin, Block, BlockEvent, BlockKind, More
from vllm.entrypoints.openai.errors import ApiError
from vllm.entrypoints.openai.streaming import StreamForm, event


def named_event(kind: str, **fields: Any) -> str:
    """An event, whose data repeats its name."""
    return event(json.dumps({"type": kind, **fields}, ensure_ascii=False), kind)


def _error(error: ApiError) -> str:
    return event(json.dumps(error.anthropic_body()), "error")


# The stream ends with message_stop, which is one of the message's events.
MESSAGES = StreamForm(_error, "")


def whole_blocks(blocks: List[Block]) -> List[Dict[str, Any]]:
    """The content of a message."""
    return [{**_empty(block), **_full(block)} for block in blocks]


def block_events(news: List[BlockEvent]) -> Iterator[str]:
    """The events of new parts of a message."""
    for each in news:
        index = each.block.index
        if isinstance(each, Begin):
            yield named_event("content_block_start", index=index, content_block=_empty(each.block))
        elif isinstance(each, More):
            yield named_event("content_block_delta", index=index, delta=_delta(each))
        else:
            yield named_event("content_block_stop", index=index)


def _empty(block: Block) -> Dict[str, Any]:
    """A content block at its beginning. The signature of thinking is empty: this server makes and
    checks none."""
    if block.kind is BlockKind.TEXT:
        return {"type": "text", "text": ""}
    if block.kind is BlockKind.REASONING:
        return {"type": "thinking", "thinking": "", "signature": ""}
    id = f"toolu_{secrets.token_hex(12)}"
    return {"type": "tool_use", "id": id, "name": block.name, "input": {}}


def _full(block: Block) -> Dict[str, Any]:
    if block.kind is BlockKind.TEXT:
        return {"text": block.text}
    if block.kind is BlockKind.REASONING:
        return {"thinking": block.text}
    # Arguments cut short by max_tokens are completed as clients complete partial JSON of a stream.
    return {"input": from_json(block.text, allow_partial=True) if block.text else {}}


def _delta(more: More) -> Dict[str, Any]:
    if more.block.kind is BlockKind.TEXT:
        return {"type": "text_delta", "text": more.text}
    if more.block.kind is BlockKind.REASONING:
        return {"type": "thinking_delta", "thinking": more.text}
    return {"type": "input_json_delta", "partial_json": more.text}
