"""Incremental detokenization in whole characters, and the search for stop strings."""

from __future__ import annotations

import codecs
from typing import Optional, Sequence, Tuple

from vllm.text.token_bytes import TokenBytes

_REPLACEMENT = "\ufffd"
# A character has at most four bytes, so at most three bytes can be incomplete.
_MAX_WAITING = 3
_EACH_BYTE = "vllm.replace-each-byte"


class IncrementalDetokenizer:
    """Decodes a growing list of tokens, and never returns part of a character.

    The text is the UTF-8 decoding of the concatenated bytes of all tokens, whatever groups they are
    appended in. Invalid bytes become U+FFFD as soon as they are known to be invalid.

    token_bytes: the bytes of each token.
    prompt_token_ids: the tokens before. A character that begins in the prompt and is completed by
        new tokens belongs to the new text.
    skip_special_tokens: leave special tokens out of the text.
    """

    def __init__(
        self,
        token_bytes: TokenBytes,
        prompt_token_ids: Sequence[int] = (),
        *,
        skip_special_tokens: bool = True,
    ) -> None:
        self._bytes = token_bytes
        self._skipped = token_bytes.special_ids if skip_special_tokens else frozenset()
        errors = _EACH_BYTE if token_bytes.replaces_each_byte else "replace"
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors)
        self._has_begun = any(self._is_visible(token) for token in reversed(prompt_token_ids))
        # Bytes of an incomplete character at the end of the prompt.
        self._begun_by_prompt = self._incomplete_end(prompt_token_ids)

    def append(self, token_ids: Sequence[int]) -> str:
        """Appends tokens; returns the text of the characters that they complete."""
        known, skipped = self._bytes, self._skipped
        new = b""
        if not self._has_begun:
            new, token_ids = self._begin(token_ids)
        new += b"".join([known[token] for token in token_ids if token not in skipped])
        if self._begun_by_prompt and new:
            if _may_go_on(self._begun_by_prompt, new[0]):
                new = self._begun_by_prompt + new
            self._begun_by_prompt = b""
        return self._utf8.decode(new)

    def flush(self) -> str:
        """Ends the text: U+FFFD if its last character is incomplete, else the empty string."""
        return self._utf8.decode(b"", True)

    def _begin(self, token_ids: Sequence[int]) -> Tuple[bytes, Sequence[int]]:
        """The bytes of the first visible token, and the tokens after it."""
        for index, token in enumerate(token_ids):
            if self._is_visible(token):
                self._has_begun = True
                return self._bytes.first(token), token_ids[index + 1 :]
        return b"", ()

    def _is_visible(self, token: int) -> bool:
        return token not in self._skipped and self._bytes.has_token(token)

    def _incomplete_end(self, token_ids: Sequence[int]) -> bytes:
        """The bytes of an incomplete character at the end."""
        end = b""
        for token in reversed(token_ids):
            if token not in self._skipped:
                end = self._bytes[token] + end
                if len(end) >= _MAX_WAITING:
                    break
        utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        utf8.decode(end)
        return utf8.getstate()[0]


def _may_go_on(begun: bytes, byte: int) -> bool:
    """Whether a byte can be the next one of an incomplete character."""
    try:
        codecs.getincrementaldecoder("utf-8")("strict").decode(begun + bytes([byte]))
    except UnicodeDecodeError:
        return False
    return True


def _replace_each_byte(error: UnicodeError) -> Tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return _REPLACEMENT * (error.end - error.start), error.end


codecs.register_error(_EACH_BYTE, _replace_each_byte)


class StopStrings:
    """Searches a growing text for the first of several stop strings."""

    def __init__(self, strings: Sequence[str], *, include: bool) -> None:
        self._strings = tuple(strings)
        self._include = include

    def find(self, text: str, num_old: int) -> Optional[Tuple[str, str]]:
        """The first stop string in the text, and the text truncated there; or None.

        num_old: characters that have been searched before; a new match ends after them.
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
        """How many leading characters cannot be part of a stop string that is still incomplete."""
        held, last = 0, text[-1:]
        for string in self._strings if text else ():
            # The lengths at which a beginning of the string ends as the text does, longest first.
            length = string.rfind(last, held, min(len(string) - 1, len(text))) + 1
            while length > held and not text.endswith(string[:length]):
                length = string.rfind(last, held, length - 1) + 1
            held = max(held, length)
        return len(text) - held
