"""What a sequence may not, or has to, say next: tokens by themselves, words, a grammar."""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple
from typing import Sequence as SequenceOf

from vllm.sampling_params import SamplingParams
from vllm.text.grammars import Grammar
from vllm.text.tokenizer import Tokenizer

FORBIDDEN = float("inf")


class Constraints:
    """Of one sequence, beside its penalties.

    bad_words: token ids of each.
    grammar: None where the output may be anything.
    """

    def __init__(
        self,
        params: SamplingParams,
        bad_words: SequenceOf[Tuple[int, ...]],
        grammar: Optional[Grammar],
        vocab_size: int,
    ) -> None:
        self.grammar = grammar
        self._bias = {token: -bias for token, bias in params.logit_bias.items()}
        self._bad_words = bad_words
        self._allowed = _bits(params.allowed_token_ids, vocab_size)

    def subtract(self, output: SequenceOf[int]) -> Dict[int, float]:
        """What to take from the logits of single tokens; infinite where one is forbidden."""
        if not self._bad_words:
            return self._bias
        found = dict(self._bias)
        for *beginning, last in self._bad_words:
            if not beginning or list(output[-len(beginning) :]) == beginning:
                found[last] = FORBIDDEN
        return found

    def mask(self) -> Optional[bytes]:
        """A bit for each token that may come, the lowest first; None if all may."""
        if self.grammar is None:
            return self._allowed
        mask = self.grammar.mask()
        if self._allowed is None:
            return mask
        both = int.from_bytes(mask, "little") & int.from_bytes(self._allowed, "little")
        return both.to_bytes(len(mask), "little")

    @property
    def follow_output(self) -> bool:
        """Whether what may come next depends on what has come."""
        return self.grammar is not None or bool(self._bad_words)

    def is_end(self, token_id: int) -> bool:
        """Whether a token is the one that ends outputs of the grammar."""
        return self.grammar is not None and token_id == self.grammar.eos_token_id

    def accept(self, token_id: int) -> bool:
        """Takes in a token; True if it completes the output."""
        return self.grammar is not None and self.grammar.accept(token_id)


def encode_bad_words(words: SequenceOf[str], tokenizer: Tokenizer) -> List[Tuple[int, ...]]:
    """The tokens of each word, at the start of a text and behind a space."""
    found: Dict[Tuple[int, ...], None] = {}
    for word in words:
        for text in (word, " " + word.lstrip()):
            ids = tuple(tokenizer.encode(text, add_special_tokens=False))
            if ids:
                found[ids] = None
    return list(found)


def _bits(token_ids: SequenceOf[int], vocab_size: int) -> Optional[bytes]:
    """None for no tokens, which is no constraint."""
    if not token_ids:
        return None
    bits = bytearray(-(-vocab_size // 32) * 4)
    for token in token_ids:
        bits[token >> 3] |= 1 << (token & 7)
    return bytes(bits)
