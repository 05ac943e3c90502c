"""Renders a conversation as a prompt, with a model's Jinja templates."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Dict, Mapping, Optional
from typing import Sequence as SequenceOf

from vllm.config import ModelError, hint, is_present, read_json
from vllm.text.messages import Message, plain, plain_messages
from vllm.text.template_forms import TemplateForms
from vllm.text.template_sandbox import SANDBOX, TemplateError

# Marks the end of the final message if the model is to continue it. The trailing space shows
# whether the template trims messages.
_END = "<|vllm: the final message ends here|> "


class ChatTemplate:
    """A chat template. It is untrusted code: it runs in a sandbox with limits on time and size.

    source: None if the model has no template; rendering then raises ValueError.
    """

    def __init__(self, source: Optional[str]) -> None:
        if source is not None and not isinstance(source, str):
            raise ValueError(f"a chat template is text, Jinja source, got {source!r}")
        self._source = source

    def render(
        self,
        messages: SequenceOf[Message],
        /,
        *,
        continue_final_message: bool = False,
        **variables: Any,
    ) -> str:
        """Renders the prompt.

        continue_final_message: end with the last message's text, for the model to continue it.
        variables: the template's variables: `tools`, `documents`, `add_generation_prompt`…
        Raises ValueError naming the message, or with the template's own error.
        """
        if self._source is None:
            raise ValueError(
                "this model has no chat template: pass chat_template, or use generate with a "
                "prompt in the model's own format"
            )
        listed = plain_messages(messages)
        if continue_final_message:
            if variables.get("add_generation_prompt"):
                raise ValueError(
                    "continue_final_message continues the last message, add_generation_prompt "
                    "begins a new one: set only one of them"
                )
            end = _mark_end(listed[-1])
        given = {name: plain(value) for name, value in variables.items()}
        listed = _forms(self._source).fit(listed)
        try:
            text = SANDBOX.render(self._source, {**given, "messages": listed})
        except TemplateError as error:
            raise ValueError(f"the chat template refused these messages: {error}") from error
        return _up_to_end(text, end) if continue_final_message else text


class ChatTemplates:
    """The templates of a model: one, or several by name."""

    def __init__(self, found: Any) -> None:
        """found: Jinja source, a mapping of names to it, or None.

        Raises ValueError for anything else.
        """
        several = found if isinstance(found, Mapping) else {"default": found}
        self._by_name = {str(name): ChatTemplate(source) for name, source in several.items()}

    @classmethod
    def read(cls, folder: Path, tokenizer_config: Mapping[str, Any]) -> ChatTemplates:
        """Reads the templates of a model folder.

        Files come first: chat_template.jinja, and additional_chat_templates/NAME.jinja; then
        tokenizer_config.json, which may list several by name; then chat_template.json. Raises
        ModelError if they are not templates.
        """
        files = {path.stem: path for path in folder.glob("additional_chat_templates/*.jinja")}
        if is_present(folder / "chat_template.jinja"):
            files["default"] = folder / "chat_template.jinja"
        if files:
            return cls({name: _source(path) for name, path in files.items()})
        found = tokenizer_config.get("chat_template")
        in_json = folder / "chat_template.json"
        if found is None and is_present(in_json):
            found = read_json(in_json).get("chat_template")
        try:
            if isinstance(found, list):
                found = {entry["name"]: entry["template"] for entry in found}
            return cls(found)
        except (ValueError, TypeError, KeyError) as error:
            raise ModelError(
                f"chat_template of {folder} must be Jinja source, or a list of objects with 'name' "
                f"and 'template', got {found!r}"
            ) from error

    def choose(self, wanted: Optional[str], *, has_tools: bool) -> ChatTemplate:
        """Chooses the template to use.

        wanted: the name of a template, or Jinja source. None chooses "tool_use" if there are tools
            and such a template, else "default".
        Raises ValueError if there is no default.
        """
        if wanted is not None:
            return self._by_name.get(wanted) or ChatTemplate(wanted)
        for name in ("tool_use", "default") if has_tools else ("default",):
            if name in self._by_name:
                return self._by_name[name]
        raise ValueError(
            f"this model has several chat templates and none is the default: pass one of their "
            f"names as chat_template: {', '.join(sorted(self._by_name))}"
        )


def _source(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}{hint(path)}") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path} is not UTF-8: {error}") from error


@functools.lru_cache(maxsize=32)
def _forms(source: str) -> TemplateForms:
    return TemplateForms(source)


def _mark_end(message: Dict[str, Any]) -> str:
    """Appends `_END` to the text of a message; returns the text without it."""
    content: Any = message.get("content")
    last = content[-1] if content and isinstance(content, list) else None
    if isinstance(last, dict) and isinstance(last.get("text"), str):
        text: str = last["text"]
        last["text"] = text + _END
    elif isinstance(content, str):
        text = content
        message["content"] = text + _END
    else:
        raise ValueError("continue_final_message needs a final message with text, got none")
    return text


def _up_to_end(text: str, end: str) -> str:
    at = text.rfind(_END.strip())
    if at < 0 or end.strip() not in text[:at]:
        raise ValueError(
            "continue_final_message: the chat template leaves out the end of the final message"
        )
    return text[:at] if text.startswith(_END, at) else text[:at].rstrip()
