"""Which tokens a sequence may generate next: logit bias, allowed tokens, bad words, a grammar."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Tuple
from typing import Sequence as SequenceOf

from vllm.sampling_params import SamplingParams
from vllm.text.grammars import Grammar
from vllm.text.tokenizer import Tokenizer

FORBIDDEN = -float("inf")


class Bias(NamedTuple):
    """An amount to add to the logit of a token; `FORBIDDEN` excludes the token.

    after: applies only if this is the previous token; -1 applies always.
    """

    token: int
    amount: float
    after: int = -1


class Constraints:
    """The constraints on the output of one sequence, without its penalties.

    bad_words: the token ids of each word.
    grammar: None if the text is not constrained.
    allowed: bit i (lowest first) is set if `allowed_token_ids` has token i; None allows all.
    has_biases: whether `biases` may return any.
    has_mask: whether a bit mask excludes some tokens: that of the grammar or of the allowed ids.
    """

    def __init__(
        self,
        params: SamplingParams,
        bad_words: SequenceOf[Tuple[int, ...]],
        grammar: Optional[Grammar],
        vocab_size: int,
    ) -> None:
        self.grammar = grammar
        self._biases = [Bias(token, bias) for token, bias in params.logit_bias.items()]
        self._bad_words = bad_words
        self.allowed = _bits(params.allowed_token_ids, vocab_size)
        self.has_biases = bool(self._biases or bad_words)
        self.has_mask = grammar is not None or self.allowed is not None

    def biases(self, token_ids: List[int], start: int, end: int) -> List[Bias]:
        """The biases on the token at index `end` of `token_ids`; the output begins at `start`.

        The token at `end` - 1 may be unknown: a bias that depends on it has `after` set.
        """
        if not self._bad_words:
            return self._biases
        found = list(self._biases)
        for *beginning, last in self._bad_words:
            first = end - len(beginning)
            if not beginning:
                found.append(Bias(last, FORBIDDEN))
            elif first >= start and token_ids[first : end - 1] == beginning[:-1]:
                found.append(Bias(last, FORBIDDEN, after=beginning[-1]))
        return found

    def is_end(self, token_id: int) -> bool:
        """Whether this is the grammar's end-of-sequence token."""
        return self.grammar is not None and token_id == self.grammar.eos_token_id

    def accept(self, token_id: int) -> bool:
        """Advances the grammar by a token; True if the output is complete. Raises GrammarError."""
        return self.grammar is not None and self.grammar.accept(token_id)


def encode_bad_words(words: SequenceOf[str], tokenizer: Tokenizer) -> List[Tuple[int, ...]]:
    """The token ids of each word, both at the start of a text and after a space."""
    found: Dict[Tuple[int, ...], None] = {}
    for word in words:
        for text in (word, " " + word.lstrip()):
            ids = tuple(tokenizer.encode(text, add_special_tokens=False))
            if ids:
                found[ids] = None
    return list(found)


def _bits(token_ids: SequenceOf[int], vocab_size: int) -> Optional[bytes]:
    """A bit set of the tokens, padded to whole 32-bit words; None without any tokens."""
    if not token_ids:
        return None
    bits = bytearray(-(-vocab_size // 32) * 4)
    for token in token_ids:
        bits[token >> 3] |= 1 << (token & 7)
    return bytes(bits)
