"""The bytes that each token adds to a text.

A character may span tokens, so the text of a single token is not well defined, but its bytes are.
They are found by running the tokenizer's decoder (`tokenizers.decoders`) on the token between two
neighbours whose text is known. What a decoder does only at the start of a text, such as dropping a
space, is handled separately.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, Mapping, Optional

from tokenizers import pre_tokenizers

_NEIGHBOUR = "a"  # a token that every decoder passes through unchanged
_REPLACEMENT = "\ufffd"
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenBytes:
    """The bytes of every token of a tokenizer, computed on first use.

    backend: a `tokenizers.Tokenizer`.
    special_ids: ids of the special tokens, whose text is usually skipped.
    replaces_each_byte: whether each invalid byte becomes one U+FFFD, as with byte fallback, or each
        invalid sequence, as Unicode recommends and byte-level tokenizers do.

    Raises ValueError for a decoder that cannot decode token by token.
    """

    def __init__(self, backend: Any) -> None:
        decoder = backend.decoder
        self._decode: Callable[[List[str]], str] = decoder.decode if decoder else " ".join
        self._id_to_token: Callable[[int], Optional[str]] = backend.id_to_token
        both = self._decode([_NEIGHBOUR, _NEIGHBOUR])
        if not (both.startswith(_NEIGHBOUR) and len(both) > 1 and both.endswith(_NEIGHBOUR)):
            raise ValueError(
                f"its decoder, {type(decoder).__name__}, decodes two tokens {_NEIGHBOUR!r} as "
                f"{both!r}: it cannot decode token by token"
            )
        self._behind = both[len(_NEIGHBOUR) :]
        self._is_byte_level = self._between("Ã©") == "é"
        self.replaces_each_byte = self._between("<0xE1>") == _REPLACEMENT
        added: Mapping[int, Any] = backend.get_added_tokens_decoder()
        special = {token.content for token in added.values() if token.special}
        self.special_ids = frozenset(i for i, token in added.items() if token.content in special)
        self._known: Dict[int, bytes] = {}

    def __getitem__(self, token_id: int) -> bytes:
        """The bytes of a token that is not the first; empty for an id without a token."""
        known = self._known.get(token_id)
        if known is None:
            known = self._known[token_id] = self._bytes(token_id, self._between)
        return known

    def first(self, token_id: int) -> bytes:
        """The bytes of a token at the start of a text."""
        return self._bytes(token_id, self._before)

    def has_token(self, token_id: int) -> bool:
        """Whether the id has a token: a model's vocabulary may be larger than its tokenizer's."""
        return self._id_to_token(token_id) is not None

    def _bytes(self, token_id: int, text_of: Callable[[str], str]) -> bytes:
        token = self._id_to_token(token_id)
        if token is None:
            return b""
        text = text_of(token)
        if _REPLACEMENT not in text:
            return text.encode()
        # Part of a character, or a token that really is the replacement character.
        if self._is_byte_level:
            mapped = [BYTE_OF_CHARACTER.get(character) for character in token]
            return token.encode() if None in mapped else bytes(b for b in mapped if b is not None)
        byte = _BYTE_TOKEN.fullmatch(token) if self.replaces_each_byte else None
        return bytes([int(byte[1], 16)]) if byte else text.encode()

    def _between(self, token: str) -> str:
        text = self._decode([_NEIGHBOUR, token, _NEIGHBOUR])
        return text[len(_NEIGHBOUR) : len(text) - len(self._behind)]

    def _before(self, token: str) -> str:
        text = self._decode([token, _NEIGHBOUR])
        return text[: len(text) - len(self._behind)]


def _byte_level_alphabet() -> Dict[str, int]:
    """The byte that each character stands for in byte-level tokens (GPT-2's bytes_to_unicode).

    Bytes that are visible in Latin-1 are themselves; characters from 256 on are the others in
    their order.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    visible = {ord(character) for character in alphabet if ord(character) < 256}
    others = iter(byte for byte in range(256) if byte not in visible)
    return {c: ord(c) if ord(c) in visible else next(others) for c in alphabet}


BYTE_OF_CHARACTER = _byte_level_alphabet()
