"""Finds out which forms of messages a chat template supports, by rendering probe messages."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from vllm.text.messages import joined_text
from vllm.text.template_sandbox import SANDBOX, TemplateError

_SHOWN, _HIDDEN = "vllm-probe-shown", "vllm-probe-hidden"
_PARTS = [{"type": "text", "text": _SHOWN, "note": _HIDDEN}]
_USER = {"role": "user", "content": "x"}
_ARGUMENTS = {"name": _SHOWN}
# The ways to write a message without content, the usual one first.
_WITHOUT_CONTENT: Tuple[Dict[str, Any], ...] = ({}, {"content": None}, {"content": ""})


class _CallForms(NamedTuple):
    """How a template wants calls: how to leave out content, and the form of arguments.

    renders: whether it raises no error then; it may ignore calls, and take neither form.
    """

    without_content: Mapping[str, Any]
    takes_object: bool
    takes_text: bool
    renders: bool

    @property
    def is_any(self) -> bool:
        return self.takes_object or self.takes_text


class TemplateForms:
    """Converts messages to the form that a template supports.

    A template that prints `content` would print a list of parts as Python; one that iterates over
    parts would iterate over the characters of a text. Some templates want the arguments of a call
    as an object, others as JSON text. Most want no content in a message that has only calls, others
    want an empty one, even where they ignore calls. A form that the template supports is not
    changed.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._content: Dict[str, Tuple[bool, bool]] = {}  # by role: takes text, takes parts
        self._calls: Optional[_CallForms] = None
        self._without_content: Dict[str, Mapping[str, Any]] = {}  # by role

    def fit(self, messages: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
        """The same messages, in forms that the template supports."""
        return [self._fit_calls(self._fit_content(message)) for message in messages]

    def _fit_content(self, message: Dict[str, Any]) -> Dict[str, Any]:
        content = message.get("content")
        if content is None and not message.get("tool_calls"):
            return {**self._missing_content(message["role"]), **message}
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

    def _missing_content(self, role: str) -> Mapping[str, Any]:
        """How to leave out the content of a message without calls."""
        known = self._without_content.get(role)
        if known is None:
            known = self._without_content[role] = next(
                (
                    way
                    for way in _WITHOUT_CONTENT
                    if self._probe(_around({"role": role, **way})) is not None
                ),
                _WITHOUT_CONTENT[0],
            )
        return known

    def _fit_calls(self, message: Dict[str, Any]) -> Dict[str, Any]:
        calls = message.get("tool_calls")
        if not calls or not isinstance(calls, list):
            return message
        forms = self._call_forms()
        fitted = [_fit_call(call, forms) for call in calls]
        return {**forms.without_content, **message, "tool_calls": fitted}

    def _call_forms(self) -> _CallForms:
        if self._calls is None:
            found = [self._forms_with(way) for way in _WITHOUT_CONTENT]
            self._calls = max(found, key=lambda forms: (forms.is_any, forms.renders))
        return self._calls

    def _forms_with(self, without_content: Mapping[str, Any]) -> _CallForms:
        """The forms of calls that work with this way to leave out content."""
        as_object, as_text = (
            self._probe(_around({**_calling(form), **without_content}))
            for form in (_ARGUMENTS, json.dumps(_ARGUMENTS))
        )
        return _CallForms(
            without_content,
            takes_object=as_object is not None
            and _SHOWN in as_object
            and f"'{_SHOWN}'" not in as_object,
            takes_text=as_text is not None and json.dumps(_ARGUMENTS) in as_text,
            renders=as_object is not None or as_text is not None,
        )

    def _probe(self, messages: List[Dict[str, Any]]) -> Optional[str]:
        """The rendered conversation; None if the template raises."""
        try:
            return SANDBOX.render(
                self._source, {"messages": messages, "add_generation_prompt": False}
            )
        except TemplateError:
            return None


def _fit_call(call: Any, forms: _CallForms) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or "arguments" not in function:
        return call
    given = fitted = function["arguments"]
    if isinstance(given, str):
        if forms.takes_object and not forms.takes_text:
            fitted = _parsed(given)
    elif isinstance(given, dict) and forms.takes_text and not forms.takes_object:
        fitted = json.dumps(given, ensure_ascii=False)
    return {**call, "function": {**function, "arguments": fitted}}


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
