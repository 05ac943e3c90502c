"""What is new in a message, and messages made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterable, List, Optional, Tuple, Union


@dataclass(frozen=True)
class Content:
    """More of the answer."""

    text: str


@dataclass(frozen=True)
class Reasoning:
    """More of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True)
class Call:
    """A call of a tool, or more of it.

    index: which of the message's calls it is, from 0.
    name: the tool's, in the first delta of a call; then None.
    arguments: more of the arguments, as JSON's text.
    """

    index: int
    name: Optional[str]
    arguments: str


Delta = Union[Content, Reasoning, Call]


@dataclass(frozen=True)
class ParsedCall:
    """A whole call; arguments are JSON's text, cut short where the model was."""

    name: str
    arguments: str


@dataclass(frozen=True)
class ParsedMessage:
    """A whole message; what it does not have is None."""

    content: Optional[str] = None
    reasoning: Optional[str] = None
    calls: Tuple[ParsedCall, ...] = ()


def join(deltas: Iterable[Delta]) -> ParsedMessage:
    """The message that deltas make, in their order."""
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
