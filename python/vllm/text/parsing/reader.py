"""Reads a growing text, one character at a time.

The parsing functions are generators, written as if the whole text were available: when no character
is left they `yield`, and continue when one is sent. So it cannot matter where pieces of text end.
"""

from __future__ import annotations

from typing import Collection, Generator, List, Optional, TypeVar

T = TypeVar("T")
# A generator that waits for characters and returns a T.
Steps = Generator[None, str, T]

END = ""  # read after the last character


class Reader:
    """Reads characters as they are sent, and can go back to a mark."""

    def __init__(self) -> None:
        self._again: List[str] = []  # to be read again, in reverse order
        self._since_mark: List[str] = []
        self.has_ended = False

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing has been read since the mark, and nothing is left to read again."""
        return not self._since_mark and not self._again

    def read(self) -> Steps[str]:
        """Reads the next character, or END after the last one."""
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
        """The next character, without reading it."""
        character = yield from self.read()
        if character != END:
            self._again.append(self._since_mark.pop())
        return character

    def mark(self) -> None:
        """Sets the position that `rewind` goes back to."""
        self._since_mark = []

    def rewind(self) -> None:
        """Goes back to the mark."""
        self._give_back(len(self._since_mark))

    def match(self, words: Collection[str]) -> Steps[Optional[str]]:
        """Reads and returns one of the words; None, with nothing read, if none comes next."""
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
        """Skips these characters."""
        while True:
            character = yield from self.peek()
            if character == END or character not in characters:
                return
            yield from self.read()

    def _give_back(self, count: int) -> None:
        for _ in range(count):
            self._again.append(self._since_mark.pop())
