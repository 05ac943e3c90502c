"""Translates requests of Anthropic's API to those of /v1/chat/completions."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, Optional, Union

from vllm.entrypoints.anthropic.protocol import (
    CountRequest,
    InputBlock,
    InputMessage,
    MessagesRequest,
    OfferedTool,
    Thinking,
    ToolChoice,
)
from vllm.entrypoints.openai.conversation import as_chat
from vllm.entrypoints.openai.errors import ApiError
from vllm.entrypoints.openai.protocol.chat import ChatRequest

# Anthropic's names of the fields that errors of the translated request mention.
_NAMES = {"stop": "stop_sequences", "max_completion_tokens": "max_tokens"}


def chat_request(body: CountRequest) -> ChatRequest:
    """Translates a request. Raises ApiError for unsupported features."""
    messages = [] if body.system is None else [_system(body.system)]
    for place, message in enumerate(body.messages):
        messages += _messages(f"messages.{place}", message)
    fields: Dict[str, Any] = {
        "model": body.model,
        "messages": messages,
        "tools": [_tool(f"tools.{at}", tool) for at, tool in enumerate(body.tools or [])] or None,
        **_tool_choice(body.tool_choice),
        **_thinking(body.thinking),
    }
    if messages[-1]["role"] == "assistant":
        fields.update(continue_final_message=True, add_generation_prompt=False)
    if body.output_config is not None:
        fields["reasoning_effort"] = body.output_config.effort
        if body.output_config.format is not None:
            schema = {"name": "output", "schema": body.output_config.format.json_schema}
            fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    if isinstance(body, MessagesRequest):
        fields.update(
            max_completion_tokens=body.max_tokens,
            temperature=body.temperature,
            top_p=body.top_p,
            top_k=body.top_k,
            stop=body.stop_sequences,
            stream=body.stream,
        )
    return as_chat(fields, _NAMES)


def _system(system: Union[str, List[InputBlock]]) -> Dict[str, Any]:
    if isinstance(system, str):
        return {"role": "system", "content": system}
    parts = [_text(f"system.{place}", block) for place, block in enumerate(system)]
    return {"role": "system", "content": parts}


def _messages(where: str, message: InputMessage) -> List[Dict[str, Any]]:
    """Translates a turn to one message or several: each tool result becomes a separate message."""
    if isinstance(message.content, str):
        return [{"role": message.role, "content": message.content}]
    texts: List[Dict[str, Any]] = []
    results: List[Dict[str, Any]] = []
    extra: Dict[str, Any] = {}
    for place, block in enumerate(message.content):
        here = f"{where}.content.{place}"
        if block.type == "tool_result" and message.role == "user":
            results.append(_result(here, block))
        elif block.type == "tool_use" and message.role == "assistant":
            extra.setdefault("tool_calls", []).append(_call(here, block))
        elif block.type == "thinking" and message.role == "assistant":
            thought = extra.get("reasoning_content", "") + (block.thinking or "")
            extra["reasoning_content"] = thought
        elif block.type == "redacted_thinking" and message.role == "assistant":
            continue  # encrypted for Anthropic's models
        else:
            texts.append(_text(here, block))
    if not texts and results:
        return results
    if message.role == "assistant":  # older templates expect its content as one text
        joined = "".join(part["text"] for part in texts)
        return [{"role": "assistant", "content": joined, **extra}]
    return [*results, {"role": message.role, "content": texts}]


def _text(where: str, block: InputBlock) -> Dict[str, Any]:
    if block.type != "text":
        raise ApiError(
            400, f"{where} is of type {block.type!r}: this engine takes only text", param=where
        )
    if block.text is None:
        raise ApiError(400, f"{where}.text is missing", param=where)
    return {"type": "text", "text": block.text}


def _result(where: str, block: InputBlock) -> Dict[str, Any]:
    content: Any = block.content or ""
    if not isinstance(content, str):
        parts = [InputBlock.model_construct(**part) for part in content if "type" in part]
        content = [_text(f"{where}.content.{at}", part) for at, part in enumerate(parts)]
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": content}


def _call(where: str, block: InputBlock) -> Dict[str, Any]:
    if block.name is None:
        raise ApiError(400, f"{where}.name is missing", param=where)
    function = {"name": block.name, "arguments": json.dumps(block.input or {}, ensure_ascii=False)}
    return {"id": block.id, "type": "function", "function": function}


def _tool(where: str, tool: OfferedTool) -> Mapping[str, Any]:
    if tool.type not in (None, "custom") or tool.input_schema is None:
        raise ApiError(
            400,
            f"{where} is refused: this server has no tools of its own, so a tool needs an "
            f"input_schema and no type but 'custom', got {tool.type!r}",
            param="tools",
        )
    function: Dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description is not None:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def _tool_choice(choice: Optional[ToolChoice]) -> Dict[str, Any]:
    if choice is None:
        return {}
    if choice.type == "tool":
        if choice.name is None:
            raise ApiError(400, "tool_choice.name is missing", param="tool_choice")
        wanted: Any = {"type": "function", "function": {"name": choice.name}}
    else:
        wanted = {"any": "required"}.get(choice.type, choice.type)
    several = not choice.disable_parallel_tool_use
    return {"tool_choice": wanted, "parallel_tool_calls": several}


def _thinking(thinking: Optional[Thinking]) -> Dict[str, Any]:
    """Sets both names that templates use for it; if the request does not say, they decide."""
    if thinking is None:
        return {}
    wanted = thinking.type != "disabled"
    return {
        "chat_template_kwargs": {"enable_thinking": wanted, "thinking": wanted},
        "include_reasoning": wanted,
    }
