"""The fewest tokens that a text can have, known without encoding it.

Encoding ten megabytes takes seconds, and gigabytes of memory. A text that cannot fit into a model's
context is refused before that.
"""

from __future__ import annotations

import json
from typing import Any, Container, Dict, List, Optional

from vllm.text.token_bytes import BYTE_OF_CHARACTER

# By how much each kind of normalizer can shorten a text at most, in characters. A composed
# character (NFC) stands for at most four: a Greek letter with three marks.
_NORMALIZERS = {"NFC": 4, "NFKC": 4, "NFD": 1, "NFKD": 1, "Lowercase": 1, "Prepend": 1}
# Pre-tokenizers that keep every character.
_KEEPING = {"ByteLevel", "Digits", "Metaspace", "UnicodeScripts"}
_SPLITTING = {"Split", "Punctuation"}


class TokenCount:
    """The fewest tokens of a text for one tokenizer.

    backend: a `tokenizers.Tokenizer`.
    """

    def __init__(self, backend: Any) -> None:
        vocabulary: Dict[str, int] = backend.get_vocab(with_added_tokens=True)
        self._ignored = _ignored_characters(backend, vocabulary)
        # A character of a text is at least one of a token: a byte of it, or a sign for a space.
        self._longest = max(map(len, vocabulary)) * (_shrinkage(backend.normalizer) or 1)

    def fewest(self, text: str) -> int:
        """A number of tokens that the text has at least; 0 if it may be any, for example because an
        unknown word of any length is one token."""
        if self._ignored is None:
            return 0
        num_encoded = len(text) - sum(map(text.count, self._ignored))
        return -(-num_encoded // self._longest)


def _ignored_characters(backend: Any, tokens: Container[str]) -> Optional[List[str]]:
    """The characters that are left out of the tokens; None if they are not known, or if one token
    can stand for any number of characters."""
    added = backend.get_added_tokens_decoder().values()
    if any(token.lstrip or token.rstrip for token in added):  # with all spaces around it
        return None
    splitters = _parts(backend.pre_tokenizer, "pretokenizers")
    if not all(map(_keeps_everything, splitters)) or _shrinkage(backend.normalizer) is None:
        return None
    model = backend.model
    if type(model).__name__ != "BPE":
        return None
    if any(each["type"] == "ByteLevel" for each in splitters):
        names = {byte: character for character, byte in BYTE_OF_CHARACTER.items()}
    elif model.byte_fallback:
        names = {byte: f"<0x{byte:02X}>" for byte in range(256)}
    else:
        return None
    # Of a character that is not ASCII, the bytes after the first are in this range.
    if not all(names[byte] in tokens for byte in range(0x80, 0xC0)):
        return None
    return [chr(byte) for byte in range(0x80) if names[byte] not in tokens]


def _shrinkage(normalizer: Any) -> Optional[int]:
    """By how much it shortens a text at most, in characters; None if that has no limit."""
    factor = 1
    for each in _parts(normalizer, "normalizers"):
        own = 1 if _replaces_by_as_many(each) else _NORMALIZERS.get(each["type"])
        if own is None:
            return None
        factor *= own
    return factor


def _parts(component: Any, name: str) -> List[Dict[str, Any]]:
    """The settings of a normalizer or pre-tokenizer, or of each in a sequence of them."""
    if component is None:
        return []
    settings = json.loads(component.__getstate__())
    found: List[Dict[str, Any]] = settings[name] if settings["type"] == "Sequence" else [settings]
    return found


def _keeps_everything(splitter: Dict[str, Any]) -> bool:
    kind = splitter["type"]
    return kind in _KEEPING or (kind in _SPLITTING and splitter["behavior"] != "Removed")


def _replaces_by_as_many(normalizer: Dict[str, Any]) -> bool:
    """Whether it replaces a text by one that is not shorter, such as a space by a visible sign."""
    if normalizer["type"] != "Replace":
        return False
    pattern: Optional[str] = normalizer["pattern"].get("String")
    return pattern is not None and len(pattern) <= len(normalizer["content"])
