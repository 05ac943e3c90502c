"""A conversation as one prompt, by the Jinja template that comes with a model."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Mapping, NoReturn, Optional
from typing import Sequence as SequenceOf

from vllm.config import read_json

if TYPE_CHECKING:
    import jinja2

# {"role": "user", "content": "…"}, and whatever else the template knows.
Message = Mapping[str, Any]


class ChatTemplate:
    """A template, compiled when it is first used. It is a stranger's code: it runs in a sandbox.

    source: None where the model has none; rendering then raises ValueError.
    """

    def __init__(self, source: Optional[str]) -> None:
        if source is not None and not isinstance(source, str):
            raise ValueError(f"a chat template is text, Jinja source, got {source!r}")
        self._source = source
        self._compiled: Optional[jinja2.Template] = None

    @classmethod
    def read(cls, folder: Path, tokenizer_config: Mapping[str, Any]) -> ChatTemplate:
        """The template of a model folder, from whichever of three places has it."""
        alone, in_json = folder / "chat_template.jinja", folder / "chat_template.json"
        if alone.exists():
            return cls(alone.read_text(encoding="utf-8"))
        found = tokenizer_config.get("chat_template")
        if found is None and in_json.exists():
            found = read_json(in_json).get("chat_template")
        if isinstance(found, list):  # several, by name
            by_name = {entry.get("name"): entry.get("template") for entry in found}
            found = by_name.get("default")
        return cls(found)

    def render(self, messages: SequenceOf[Message], /, **variables: Any) -> str:
        """The prompt. Raises ValueError naming the message, or what the template said."""
        if self._source is None:
            raise ValueError(
                "this model has no chat template: pass chat_template, or use generate with a "
                "prompt in the model's own format"
            )
        if not messages:
            raise ValueError("messages must hold at least one message, got none")
        if isinstance(messages, (str, Mapping)):
            raise ValueError(f"messages must be a list of mappings, got {messages!r}")
        for index, message in enumerate(messages):
            if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
                raise ValueError(
                    f"messages[{index}] must be a mapping with a role, got {message!r}"
                )
        try:
            if self._compiled is None:
                self._compiled = _environment().from_string(self._source)
            return self._compiled.render({**variables, "messages": list(messages)})
        except Exception as error:  # whatever a stranger's code makes of what it did not expect
            raise ValueError(f"the chat template refused these messages: {error}") from error


def _environment() -> jinja2.Environment:
    """What templates on the hub are written for."""
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> NoReturn:
        raise TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, **kwargs: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **kwargs)

    class Generation(Extension):
        """{% generation %} marks what training counts; for a prompt it is its contents."""

        tags = {"generation"}  # noqa: RUF012 (as jinja2 declares it)

        def parse(self, parser: Parser) -> List[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation]
    )
    # Jinja's own tojson escapes for HTML.
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return environment
