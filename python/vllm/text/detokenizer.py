"""Text from tokens as they come, in whole characters, up to a stop string."""

from __future__ import annotations

from typing import Callable, List, Optional, Sequence, Tuple

# What a decoder puts where bytes are not, or not yet, a character.
_REPLACEMENT = "\ufffd"
# A character has at most four bytes, so at most three tokens can wait for its last one.
_MAX_INCOMPLETE = 3
# Tokens of a prompt that are decoded with the first output: whether a token starts with a space
# may depend on what comes before it.
_CONTEXT = 6
# Known tokens are dropped from the window once it is this long, and not at each token: what is left
# of them has to be decoded again.
_MAX_WINDOW = 16

Decode = Callable[[Sequence[int]], str]


class IncrementalDetokenizer:
    """The text of a growing list of tokens, without ever showing part of a character.

    Decoding the tokens one by one would break characters that span tokens, and lose spaces; all
    of them again at each step would be quadratic. So a window is decoded: some tokens whose text
    is known, as context, and those that are new.

    decode: token ids to text, complete in itself (special tokens skipped or not).
    """

    def __init__(self, decode: Decode, prompt_token_ids: Sequence[int] = ()) -> None:
        self._decode = decode
        self._window: List[int] = []
        self._num_known = 0
        self._known_text = ""
        self.text = ""
        if prompt_token_ids:
            self._start_behind(prompt_token_ids)

    def append(self, token_ids: Sequence[int]) -> str:
        """Adds tokens; returns the text that they complete."""
        self._window.extend(token_ids)
        num_complete = len(self._window)
        text = self._decode(self._window)
        if text.endswith(_REPLACEMENT):
            # Bytes that have waited for longer than any character takes are no character.
            num_complete -= _MAX_INCOMPLETE
            if num_complete - self._num_known < _MAX_INCOMPLETE:
                return ""
            text = self._decode(self._window[:num_complete])
        return self._emit(text, num_complete)

    def _start_behind(self, prompt: Sequence[int]) -> None:
        """Takes the end of a prompt as context.

        A character that the prompt begins and the output ends belongs to the output. And context
        must not start within a character, or decoders with byte tokens make nothing of it.
        """
        for num_begun in range(_MAX_INCOMPLETE + 1):
            end = len(prompt) - num_begun
            for size in range(_CONTEXT, _CONTEXT + _MAX_INCOMPLETE + 1):
                start = max(0, end - size)
                text = self._decode(prompt[start:end]) if end > start else ""
                if not text.endswith(_REPLACEMENT):
                    self._window = list(prompt[start:])
                    self._num_known = max(0, end - start)
                    self._known_text = text
                    return

    def flush(self) -> str:
        """The text of what is left when no more tokens come, incomplete characters included."""
        return self._emit(self._decode(self._window), len(self._window))

    def _emit(self, text: str, num_complete: int) -> str:
        goes_on = text.startswith(self._known_text)
        if goes_on:
            new = text[len(self._known_text) :]
        else:  # decoders with byte tokens give up a whole run of them for one that is wrong
            new = self._decode(self._window[self._num_known : num_complete])
        if not new:  # special tokens, maybe: they would be no context for what follows
            return ""
        self.text += new
        if goes_on and num_complete < _MAX_WINDOW:
            self._num_known, self._known_text = num_complete, text
        else:
            del self._window[: self._num_known]
            self._num_known = num_complete - self._num_known
            self._known_text = self._decode(self._window[: self._num_known])
        return new


class StopStrings:
    """Looks for the first of several strings in a growing text."""

    def __init__(self, strings: Sequence[str], *, include: bool) -> None:
        self._strings = tuple(strings)
        self._include = include

    def find(self, text: str, num_old: int) -> Optional[Tuple[str, str]]:
        """The stop string that comes first and the text that it leaves, or None.

        num_old: characters that were searched before; a match ends after them.
        """
        matches = []
        for string in self._strings:
            start = text.find(string, max(0, num_old - len(string) + 1))
            if start >= 0:
                matches.append((start, string))
        if not matches:
            return None
        start, string = min(matches)
        return string, text[: start + len(string) if self._include else start]

    def num_safe(self, text: str) -> int:
        """Leading characters that no stop string can still take back."""
        held = 0
        for string in self._strings:
            for length in range(min(len(string) - 1, len(text)), held, -1):
                if text.endswith(string[:length]):
                    held = length
                    break
        return len(text) - held
