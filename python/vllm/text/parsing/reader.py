"""Reads a text that is not all there yet, one character at a time.

What reads is written as if the whole text were there, as generators: where no character is left
they wait (`yield`), and go on when one is sent. So where pieces of the text end cannot matter.
"""

from __future__ import annotations

from typing import Collection, Generator, List, Optional, TypeVar

T = TypeVar("T")
# Waits for characters, and returns a T.
Steps = Generator[None, str, T]

END = ""  # what is read behind the last character


class Reader:
    """Characters as they are sent, some of which may be read again."""

    def __init__(self) -> None:
        self._again: List[str] = []  # to be read before others, the last one first
        self._since_mark: List[str] = []
        self.has_ended = False

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing has been read since the mark, and nothing is there to be read."""
        return not self._since_mark and not self._again

    def read(self) -> Steps[str]:
        """The next character, END behind the last one."""
        if self._again:
            character = self._again.pop()
        elif self.has_ended:
            return END
        else:
            character = yield
            if character == END:
                self.has_ended = True
                return END
        self._since_mark.append(character)
        return character

    def peek(self) -> Steps[str]:
        """The next character, which will be read again."""
        character = yield from self.read()
        if character != END:
            self._again.append(self._since_mark.pop())
        return character

    def mark(self) -> None:
        """`rewind` comes back to here."""
        self._since_mark = []

    def rewind(self) -> None:
        """What was read since the mark will be read again."""
        self._give_back(len(self._since_mark))

    def match(self, words: Collection[str]) -> Steps[Optional[str]]:
        """Reads the word that comes next; None, and nothing is read, if none of them does."""
        seen = ""
        while True:
            character = yield from self.read()
            seen += character
            if seen in words and seen:
                return seen
            if character == END or not any(word.startswith(seen) for word in words):
                self._give_back(len(seen))
                return None

    def skip(self, characters: str) -> Steps[None]:
        """Reads all of these characters that come next."""
        while True:
            character = yield from self.peek()
            if character == END or character not in characters:
                return
            yield from self.read()

    def _give_back(self, count: int) -> None:
        for _ in range(count):
            self._again.append(self._since_mark.pop())
