"""Formats that an output can be constrained to."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Sequence, Tuple, Union


@dataclass(frozen=True)
class StructuredOutputsParams:
    """Exactly one of the following; the other fields are None or False.

    json: a JSON schema, as text or as data; json_object: any JSON object.
    regex: a regular expression that the whole output matches.
    choice: strings of which the output is one.
    grammar: a context-free grammar, in Lark or GBNF notation.

    Raises ValueError naming the field.
    """

    json: Union[str, Mapping[str, Any], None] = None
    regex: Optional[str] = None
    choice: Optional[Sequence[str]] = None
    grammar: Optional[str] = None
    json_object: Optional[bool] = None

    def __post_init__(self) -> None:
        given = [
            field.name
            for field in dataclasses.fields(self)
            if getattr(self, field.name) not in (None, False)
        ]
        if len(given) != 1:
            names = ", ".join(field.name for field in dataclasses.fields(self))
            raise ValueError(
                f"structured_outputs must have one of {names}, got {', '.join(given) or 'none'}"
            )
        self.kind_and_text()

    def kind_and_text(self) -> Tuple[str, str]:
        """(llguidance's name of the kind of format, the format as text)."""
        if self.json is not None:
            return "json_schema", self._schema()
        if self.json_object:
            return "json_schema", '{"type": "object"}'
        if self.choice is not None:
            texts = list(self.choice) if not isinstance(self.choice, str) else []
            if not texts or not all(isinstance(text, str) and text for text in texts):
                raise ValueError(
                    f"structured_outputs.choice must be non-empty strings, got {self.choice!r}"
                )
            return "choice", json.dumps(texts)
        kind = "regex" if self.regex is not None else "grammar"
        text = getattr(self, kind)
        if not isinstance(text, str) or not text:
            raise ValueError(f"structured_outputs.{kind} must be text, got {text!r}")
        return kind, text

    def _schema(self) -> str:
        text = self.json if isinstance(self.json, str) else json.dumps(self.json)
        try:
            schema = json.loads(text)
        except ValueError as error:
            raise ValueError(f"structured_outputs.json is not JSON: {error}") from error
        if not isinstance(schema, (dict, bool)):
            raise ValueError(f"structured_outputs.json must be a schema, got {text[:100]}")
        return text


def as_structured_outputs(name: str, value: Any) -> Optional[StructuredOutputsParams]:
    """Converts a mapping of fields to StructuredOutputsParams. Raises ValueError."""
    if value is None or isinstance(value, StructuredOutputsParams):
        return value
    known = {field.name for field in dataclasses.fields(StructuredOutputsParams)}
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be a StructuredOutputsParams, got {value!r}")
    unknown = sorted(set(value) - known)
    if any(value[each] not in (None, False) for each in unknown):
        raise ValueError(f"{name} must have one of {', '.join(sorted(known))}, got {unknown}")
    return StructuredOutputsParams(**{each: value[each] for each in known & set(value)})
