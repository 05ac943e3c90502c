"""What form of a message a template can show: found by letting it show one."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional, Tuple

from vllm.text.messages import joined_text
from vllm.text.template_sandbox import SANDBOX, TemplateError

_SHOWN, _HIDDEN = "vllm-probe-shown", "vllm-probe-hidden"
_PARTS = [{"type": "text", "text": _SHOWN, "note": _HIDDEN}]
_USER = {"role": "user", "content": "x"}
_ARGUMENTS = {"name": _SHOWN}


class TemplateForms:
    """Fits messages to a template that takes only one of the forms in which clients give them.

    A template that prints `content` would print the list of a message in parts, one that goes
    through parts would go through the letters of a text. And the arguments of a tool's call are
    an object for some, and JSON's text for others. A form that a template takes is left as it is.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._content: Dict[str, Tuple[bool, bool]] = {}  # by role: takes text, takes parts
        self._arguments: Optional[Tuple[bool, bool]] = None  # takes an object, takes text

    def fit(self, messages: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
        """The same messages, in forms that the template takes."""
        return [self._fit_calls(self._fit_content(message)) for message in messages]

    def _fit_content(self, message: Dict[str, Any]) -> Dict[str, Any]:
        content = message.get("content")
        is_parts = isinstance(content, list) and all(
            isinstance(part, dict) and part.get("type") == "text" for part in content
        )
        if not is_parts and not isinstance(content, str):
            return message
        takes_text, takes_parts = self._content_forms(message["role"])
        if isinstance(content, str):
            if takes_parts and not takes_text:
                return {**message, "content": [{"type": "text", "text": content}]}
        elif isinstance(content, list) and not takes_parts:
            return {**message, "content": joined_text(content)}
        return message

    def _content_forms(self, role: str) -> Tuple[bool, bool]:
        known = self._content.get(role)
        if known is None:
            as_text = self._probe(_around({"role": role, "content": _SHOWN}))
            as_parts = self._probe(_around({"role": role, "content": _PARTS}))
            known = self._content[role] = (
                as_text is not None and _SHOWN in as_text,
                as_parts is not None and _SHOWN in as_parts and _HIDDEN not in as_parts,
            )
        return known

    def _fit_calls(self, message: Dict[str, Any]) -> Dict[str, Any]:
        calls = message.get("tool_calls")
        if not isinstance(calls, list):
            return message
        return {**message, "tool_calls": [self._fit_call(call) for call in calls]}

    def _fit_call(self, call: Any) -> Any:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or "arguments" not in function:
            return call
        given = fitted = function["arguments"]
        takes_object, takes_text = self._argument_forms()
        if isinstance(given, str):
            if takes_object and not takes_text:
                fitted = _parsed(given)
        elif isinstance(given, dict) and takes_text and not takes_object:
            fitted = json.dumps(given, ensure_ascii=False)
        return {**call, "function": {**function, "arguments": fitted}}

    def _argument_forms(self) -> Tuple[bool, bool]:
        if self._arguments is None:
            as_object, as_text = (
                self._probe(_around(_calling(form)))
                for form in (_ARGUMENTS, json.dumps(_ARGUMENTS))
            )
            self._arguments = (
                as_object is not None and _SHOWN in as_object and f"'{_SHOWN}'" not in as_object,
                as_text is not None and json.dumps(_ARGUMENTS) in as_text,
            )
        return self._arguments

    def _probe(self, messages: List[Dict[str, Any]]) -> Optional[str]:
        """What the template makes of a conversation; None if it refuses it."""
        try:
            return SANDBOX.render(
                self._source, {"messages": messages, "add_generation_prompt": False}
            )
        except TemplateError:
            return None


def _calling(arguments: Any) -> Dict[str, Any]:
    function = {"name": "probe", "arguments": arguments}
    call = {"id": "vllmprobe", "type": "function", "function": function}
    return {"role": "assistant", "tool_calls": [call]}


def _around(message: Dict[str, Any]) -> List[Dict[str, Any]]:
    """A conversation in which a message of this role may come."""
    role = message["role"]
    if role in ("system", "developer"):
        return [message, _USER]
    if role == "user":
        return [message]
    if role == "tool":
        called = _calling({})
        return [_USER, called, {**message, "name": "probe", "tool_call_id": "vllmprobe"}]
    return [_USER, message, _USER] if "tool_calls" not in message else [_USER, message]


def _parsed(text: str) -> Any:
    """The object that JSON's text stands for; what is none is left to the template."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, dict) else text
