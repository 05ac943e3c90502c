"""An answer as consecutive content blocks: text, reasoning, calls. Streamed or as a whole.

Anthropic's messages and OpenAI's responses both consist of such blocks, under different names.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import List, Optional, Tuple, Union

from vllm.entrypoints.openai.answers import AnswerReader
from vllm.text.parsing import Call, Delta, Reasoning


class BlockKind(enum.Enum):
    """The kind of a content block."""

    TEXT = "text"
    REASONING = "reasoning"
    CALL = "call"


@dataclass
class Block:
    """One content block, possibly incomplete.

    index: its index in the answer.
    text: the text; for a call, its arguments as JSON text.
    name: the function's name, for a call.
    """

    kind: BlockKind
    index: int
    text: str = ""
    name: str = ""


@dataclass(frozen=True)
class Begin:
    """A content block begins; it is still empty."""

    block: Block


@dataclass(frozen=True)
class More:
    """More text of the last block."""

    block: Block
    text: str


@dataclass(frozen=True)
class End:
    """The last block is complete."""

    block: Block


BlockEvent = Union[Begin, More, End]


class BlockReader:
    """Splits one answer into content blocks incrementally. blocks: those that have begun."""

    def __init__(self, reader: AnswerReader) -> None:
        self.blocks: List[Block] = []
        self._reader = reader
        self._key: Optional[Tuple[BlockKind, int]] = None  # of the block that has not ended

    @property
    def has_calls(self) -> bool:
        return any(block.kind is BlockKind.CALL for block in self.blocks)

    def feed(self, text: str, *, is_last: bool) -> List[BlockEvent]:
        """What a piece of text adds."""
        events: List[BlockEvent] = []
        for delta in self._reader.deltas(text, is_last=is_last):
            key, more = _key_of(delta), _text_of(delta)
            if key != self._key:
                events += self._end()
                self._key = key
                name = (delta.name or "") if isinstance(delta, Call) else ""
                self.blocks.append(Block(key[0], len(self.blocks), name=name))
                # A copy: the block itself grows before the event is read.
                events.append(Begin(Block(key[0], self.blocks[-1].index, name=name)))
            if more:
                self.blocks[-1].text += more
                events.append(More(self.blocks[-1], more))
        if is_last:
            events += self._end()
        return events

    def _end(self) -> List[BlockEvent]:
        if self._key is None:
            return []
        self._key = None
        return [End(self.blocks[-1])]


def _key_of(delta: Delta) -> Tuple[BlockKind, int]:
    if isinstance(delta, Call):
        return BlockKind.CALL, delta.index
    return (BlockKind.REASONING if isinstance(delta, Reasoning) else BlockKind.TEXT), 0


def _text_of(delta: Delta) -> str:
    return delta.arguments if isinstance(delta, Call) else delta.text
