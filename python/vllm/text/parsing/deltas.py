"""The deltas of a streamed message, and whole messages joined from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterable, List, Optional, Tuple, Union


@dataclass(frozen=True)
class Content:
    """More of the answer."""

    text: str


@dataclass(frozen=True)
class Reasoning:
    """More of the model's reasoning."""

    text: str


@dataclass(frozen=True)
class Call:
    """The beginning of a tool call, or more of its arguments.

    index: the index of the call in the message.
    name: the tool's name in the first delta of a call, None in later ones.
    arguments: more of the arguments, as JSON text.
    """

    index: int
    name: Optional[str]
    arguments: str


Delta = Union[Content, Reasoning, Call]


@dataclass(frozen=True)
class ParsedCall:
    """A whole call; arguments are JSON text, incomplete if the model was stopped."""

    name: str
    arguments: str


@dataclass(frozen=True)
class ParsedMessage:
    """A whole message; absent parts are None."""

    content: Optional[str] = None
    reasoning: Optional[str] = None
    calls: Tuple[ParsedCall, ...] = ()


def join(deltas: Iterable[Delta]) -> ParsedMessage:
    """Joins deltas, in their order, to a message."""
    content: List[str] = []
    reasoning: List[str] = []
    names: Dict[int, str] = {}
    arguments: Dict[int, List[str]] = {}
    for delta in deltas:
        if isinstance(delta, Call):
            if delta.name is not None:
                names[delta.index] = delta.name
            arguments.setdefault(delta.index, []).append(delta.arguments)
        else:
            (content if isinstance(delta, Content) else reasoning).append(delta.text)
    return ParsedMessage(
        "".join(content) or None,
        "".join(reasoning) or None,
        tuple(ParsedCall(names[index], "".join(arguments[index])) for index in sorted(names)),
    )
